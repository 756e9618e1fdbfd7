"""Entries of Redis streams: their ids, and how an entry is added once although it may be sent twice.

Every entry gets its id here, before it is first sent, and is sent again under the same id when the answer
was lost: the broker takes no id twice.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis

from streamseg.errors import OutputError

EntryId = tuple[int, int]
"""Milliseconds and a number within them; entries are in the order of their ids."""

Fields = Mapping[str, bytes | str | int | float]

_ATTEMPTS = 100
"""How often another writer may get in between before we give up."""


class ReadEntry(NamedTuple):
    """An entry of a stream's results, as the broker gave it."""

    stream: str
    id: str
    payload: bytes | None
    """The field ``result``; None if there is none, or the entry was trimmed meanwhile."""


def parse_id(text: bytes | str) -> EntryId:
    """The two numbers of an id such as ``1690000000000-0``."""
    text = text.decode() if isinstance(text, bytes) else text
    milliseconds, _, number = text.partition("-")
    return int(milliseconds), int(number or 0)


class EntryIds:
    """Gives ids by the clock, each later than the one before."""

    def __init__(self) -> None:
        self._last: EntryId = (0, 0)

    def next(self, after: EntryId = (0, 0)) -> str:
        """An id later than all before and than ``after``."""
        now = time.time_ns() // 1_000_000
        milliseconds, number = max(self._last, after)
        self._last = (now, 0) if now > milliseconds else (milliseconds, number + 1)
        return f"{self._last[0]}-{self._last[1]}"


@dataclass(frozen=True, slots=True)
class NewEntry:
    """What is added to one Redis stream, which is trimmed to about ``maxlen`` entries."""

    key: str
    fields: Fields
    maxlen: int

    def is_at(self, client: redis.Redis, id_: str) -> bool:
        """Whether the entry stands under that id already."""
        found: Any = client.xrange(self.key, id_, id_)
        name, value = next(iter(self.fields.items()))
        return bool(found) and found[0][1].get(name.encode()) == value


AddEntries = Callable[[redis.Redis, Sequence[NewEntry], str], list[Any]]
"""Adds entries under one id, in one round trip; the broker's answer to each, errors among them."""


def add_freely(client: redis.Redis, entries: Sequence[NewEntry], id_: str) -> list[Any]:
    """Add entries of a stream that nobody else publishes."""
    with client.pipeline(transaction=False) as pipe:
        for entry in entries:
            fields: Any = entry.fields  # redis-py's type asks for a dict of unions
            pipe.xadd(entry.key, fields, id=id_, maxlen=entry.maxlen, approximate=True)
        return pipe.execute(raise_on_error=False)


def add_all(
    client: redis.Redis,
    entries: Sequence[NewEntry],
    id_: str,
    ids: EntryIds,
    *,
    add: AddEntries = add_freely,
) -> str:
    """Add entries of one stream in one round trip, all under one id.

    May be called again with the same arguments: each entry is there once. Returns the id of the first entry,
    a later one of ``ids`` if the broker had that id or a later one.

    Raises:
        redis.RedisError: The broker is gone, or refuses it.
        OutputError: Another program writes to the stream all the time.
    """
    added = [id_] * len(entries)
    for k, answer in enumerate(add(client, entries, id_)):
        if _is_late(answer):
            added[k] = _settle(client, entries[k], id_, ids, add)
        elif isinstance(answer, Exception):
            raise answer
    return added[0]


def _settle(client: redis.Redis, entry: NewEntry, id_: str, ids: EntryIds, add: AddEntries) -> str:
    """The broker has that id or a later one: fine if the entry is ours, from a try whose answer was lost.

    Else another run with a clock ahead of ours wrote to the stream: go on behind it. Returns its id.
    """
    if entry.is_at(client, id_):
        return id_
    for _ in range(_ATTEMPTS):
        info: Any = client.xinfo_stream(entry.key)
        next_id = ids.next(after=parse_id(info["last-generated-id"]))
        answer = add(client, [entry], next_id)[0]
        if isinstance(answer, Exception) and not _is_late(answer):
            raise answer
        if not _is_late(answer):
            return next_id
    raise OutputError(f"{entry.key}: another program writes to it all the time")


def _is_late(answer: object) -> bool:
    return isinstance(answer, redis.ResponseError) and "equal or smaller" in str(answer)
