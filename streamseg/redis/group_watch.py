"""What the broker trims away before a group of subscribers has read it, seen from the publisher's side.

A subscriber learns of it as a :class:`~streamseg.redis.gaps.Gap` when it reads on. One that is stuck never
does, and its operator looks at the publisher.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import redis

from streamseg.redis.entries import EntryId, parse_id
from streamseg.redis.gaps import StreamFacts
from streamseg.redis.keys import results_key

logger = logging.getLogger(__name__)

_WARN_EVERY = 10.0
"""Seconds between two warnings of one group."""

Place = tuple[str, str]
"""Stream and group."""


@dataclass(frozen=True, slots=True)
class _GroupFacts:
    """What XINFO GROUPS says of one."""

    name: str
    last: EntryId
    """Id of the last entry that it was given."""
    read: int | None
    """Number of that one; None: the broker does not know."""
    lag: int | None
    """Entries behind it, by some brokers' count those that are gone included."""

    @classmethod
    def of(cls, answer: Sequence[Any]) -> _GroupFacts:
        pairs = dict(zip(answer[::2], answer[1::2], strict=False))
        return cls(
            name=pairs[b"name"].decode(errors="replace"),
            last=parse_id(pairs[b"last-delivered-id"]),
            read=pairs.get(b"entries-read"),
            lag=pairs.get(b"lag"),
        )

    def keeps_up(self, length: int) -> bool:
        """Whether what it was given last is still there, or it was given nothing yet."""
        return self.last == (0, 0) or self.read is None or (self.lag is not None and self.lag < length)

    def is_miscounted(self, facts: StreamFacts) -> bool:
        """Redis 7.0 counts one entry too few for each that the group passed over."""
        there = facts.first is not None and facts.first <= self.last
        return there and self.lag is not None and self.lag > facts.length

    def gone(self, facts: StreamFacts) -> int:
        """Entries that were trimmed behind the last one it was given."""
        there = facts.first is not None and facts.first <= self.last
        if there or facts.trimmed is None or self.read is None:
            return 0
        return max(0, facts.trimmed - self.read)


class GroupWatch:
    """Counts missed results by stream and group. One thread looks; any may read.

    The broker tells how many entries a group was given, and how many are not there any more. Redis before 7
    does not say, nor does any broker of a group that was given nothing yet.
    """

    def __init__(self, broker: str) -> None:
        """``broker``: its name, for messages."""
        self._broker = broker
        self._missed: Counter[Place] = Counter()
        self._gone: dict[Place, int] = {}
        """What was gone when we last looked."""
        self._told: dict[Place, float] = {}
        self._miscounted: set[Place] = set()
        self._allowed = True

    @property
    def missed(self) -> Mapping[Place, int]:
        """Results that were trimmed before the group had read them, at least."""
        return dict(self._missed)

    def look(self, client: redis.Redis, streams: Iterable[str]) -> None:
        """Ask the broker. Raises redis.RedisError if it is away."""
        if not self._allowed or not (names := list(streams)):
            return
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.execute_command("XINFO", "GROUPS", results_key(name))  # type: ignore[no-untyped-call]
                pipe.xlen(results_key(name))
            answers: list[Any] = pipe.execute(raise_on_error=False)
        for name, groups, length in zip(names, answers[::2], answers[1::2], strict=True):
            if isinstance(groups, redis.exceptions.NoPermissionError):
                self._allowed = False
            elif not isinstance(groups, Exception) and not isinstance(length, Exception):
                with suppress(redis.exceptions.NoPermissionError):
                    self._look_at(client, name, [_GroupFacts.of(group) for group in groups], length)

    def _look_at(self, client: redis.Redis, stream: str, groups: Sequence[_GroupFacts], length: int) -> None:
        behind = [group for group in groups if not group.keeps_up(length)]
        for group in groups:
            if group not in behind:
                self._gone.pop((stream, group.name), None)
        if not behind:
            return
        facts = StreamFacts.of(client.execute_command("XINFO", "STREAM", results_key(stream)))  # type: ignore[no-untyped-call]
        for group in behind:
            place = (stream, group.name)
            if group.is_miscounted(facts):
                self._miscounted.add(place)
            elif place not in self._miscounted:
                self._count(place, group.gone(facts))

    def _count(self, place: Place, gone: int) -> None:
        more = gone - self._gone.get(place, 0)
        self._gone[place] = gone
        if more <= 0:
            return
        self._missed[place] += more
        if (now := time.monotonic()) - self._told.get(place, -_WARN_EVERY) >= _WARN_EVERY:
            self._told[place] = now
            stream, group = place
            logger.warning(
                "%s: group %s is too slow for stream %s: %d results were trimmed before it read them",
                self._broker,
                group,
                stream,
                self._missed[place],
            )
