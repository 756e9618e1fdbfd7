"""What is trimmed before any subscriber of a group was given it.

The broker knows where a group stands and how many entries lie before that. It is asked before a read that may
pass something over: the read moves the group on.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import redis

from streamseg.redis.dialogue import Steps
from streamseg.redis.entries import ReadEntry, parse_id
from streamseg.redis.gaps import Gap, StreamFacts
from streamseg.redis.keys import results_key


class GroupGaps:
    """Finds the gaps of one subscriber of a group. Each gap is told to one subscriber of the group."""

    def __init__(self, group: str) -> None:
        self._group = group.encode()
        self._ahead: dict[str, int | None] = {}
        """Entries that are missing before the next one of a stream; None: their number is unknown."""
        self._found: deque[Gap] = deque()
        self._miscounted: set[str] = set()
        """Streams of which Redis 7.0 counts one entry too few for each that the group passed over."""
        self._keeps_up = False
        """Whether nothing was waiting when we last asked."""
        self._watches = True

    def take(self) -> Gap | None:
        """The next gap that was found."""
        return self._found.popleft() if self._found else None

    def add(self, stream: str, lost: int) -> None:
        """Take notice that entries are gone which a crashed subscriber had been given."""
        if lost:
            self._found.append(Gap(stream, lost))

    def look_ahead(self, streams: Iterable[str]) -> Steps[None]:
        """Find out, before new entries are asked for, where the group would pass over missing ones."""
        self._ahead.clear()
        if self._keeps_up or not self._watches:
            return
        try:
            for stream in sorted(streams):
                if (lost := (yield from self._missing(stream))) != 0:
                    self._ahead[stream] = lost
        except redis.exceptions.NoPermissionError:
            self._watches = False

    def look_back(self, entries: Sequence[ReadEntry]) -> Steps[None]:
        """Keep, after new entries were read, each gap whose next entry this subscriber was given."""
        self._keeps_up = not entries
        for entry in entries:
            if entry.stream in self._ahead:
                before = ("XREVRANGE", results_key(entry.stream), f"({entry.id}", "-", "COUNT", 1)
                if not (yield before):
                    self._found.append(Gap(entry.stream, self._ahead.pop(entry.stream)))

    def _missing(self, stream: str) -> Steps[int | None]:
        """Entries that were trimmed behind the last one that the group was given; None: some, perhaps."""
        key = results_key(stream)
        group = yield from self._numbers(key)
        lag, read = group.get(b"lag"), group.get(b"entries-read")
        length: int = yield ("XLEN", key)
        if lag is not None and lag < length:
            return 0  # what it was given last is still there
        facts = StreamFacts.of((yield ("XINFO", "STREAM", key)))
        last = parse_id(group[b"last-delivered-id"])
        if facts.first is None or facts.first <= last:
            if facts.first is not None and lag is not None and lag > facts.length:
                self._miscounted.add(stream)
            return 0
        if facts.trimmed == 0 or last == (0, 0):
            return 0
        if facts.trimmed is None or read is None or stream in self._miscounted:
            return None
        missing: int = facts.trimmed - read
        return max(0, missing)

    def _numbers(self, key: str) -> Steps[dict[bytes, Any]]:
        """What the broker says of our group."""
        for answer in (yield ("XINFO", "GROUPS", key)):
            pairs = dict(zip(answer[::2], answer[1::2], strict=False))
            if pairs[b"name"] == self._group:
                return pairs
        raise redis.ResponseError("NOGROUP")
