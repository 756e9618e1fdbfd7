"""Results that the broker trimmed away before a subscriber had read them.

The broker counts the entries that were ever added to a Redis stream (Redis 7, Valkey). So each entry has a
number, and a subscriber that knows the number of the last one it read, and of the next one it gets, knows how
many are missing. Frame numbers alone do not tell: a live stream leaves some out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from streamseg.redis.entries import EntryId, ReadEntry, parse_id


@dataclass(frozen=True, slots=True)
class Gap:
    """Results that a subscriber will never get: the broker had trimmed them before it asked for them."""

    stream: str
    lost: int | None
    """How many, at least; None: the broker cannot tell, nor whether there were any at all."""

    def __str__(self) -> str:
        if self.lost is None:
            return f"stream {self.stream}: results may have been trimmed before they were read"
        return f"stream {self.stream}: {self.lost} results were trimmed before they were read"


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What XINFO STREAM says of a Redis stream."""

    first: EntryId | None
    """Id of the oldest entry that is there; None: there is none."""
    last: str
    """Id of the newest one that ever was."""
    length: int
    added: int | None
    """Entries that there ever were; None: a Redis before 7 does not count them."""

    @property
    def trimmed(self) -> int | None:
        """Entries that are not there any more."""
        return None if self.added is None else self.added - self.length

    @classmethod
    def of(cls, answer: Sequence[Any]) -> "StreamFacts":
        """From the broker's answer."""
        pairs = dict(zip(answer[::2], answer[1::2], strict=False))
        first = pairs[b"first-entry"]
        return cls(
            first=parse_id(first[0]) if first else None,
            last=pairs[b"last-generated-id"].decode(),
            length=pairs[b"length"],
            added=pairs.get(b"entries-added"),
        )


class _Head(msgspec.Struct):
    """The start of a result, decoded alone: masks take their time."""

    epoch: int
    frame: int


class Trail:
    """How far one Redis stream was read: enough to notice that entries are missing."""

    def __init__(self, last: str, *, number: int | None) -> None:
        """``last``: id of the last entry read; ``number``: how many were added up to that one, if known."""
        self._last, self._number = parse_id(last), number
        self._head: _Head | None = None
        self.counts = number is not None
        """Whether the number is known, or never will be: an old Redis does not count."""

    @classmethod
    def after(cls, last: str, facts: StreamFacts | None) -> "Trail":
        """Reading begins after that entry, or with the oldest one there is."""
        if facts is None or facts.added is None:
            return cls(last, number=0 if facts is None else None)
        if parse_id(last) == (0, 0):
            return cls(last, number=facts.trimmed)
        return cls(last, number=facts.added if last == facts.last else None)

    def goes_on_with(self, entry: ReadEntry) -> bool:
        """Whether this result is that of the very next frame: then nothing is missing for sure."""
        head, before = _head_of(entry), self._head
        if head is None or before is None:
            return False
        return (head.epoch, head.frame) == (before.epoch, before.frame + 1)

    def lost_before(self, entries: Sequence[ReadEntry], facts: StreamFacts) -> int | None:
        """How many entries are missing before ``entries``, which were read next; None: some, perhaps.

        ``facts`` were asked for after these had been read.
        """
        if facts.trimmed == 0 or (facts.first is not None and facts.first <= self._last):
            return 0  # what is trimmed is always the oldest
        if facts.trimmed is None or self._number is None:
            return 0 if self._last == (0, 0) else None
        place = _place(facts.first, entries)
        # They have been trimmed meanwhile, too, all of them: the next gap will count for both.
        return 0 if place is None else max(0, facts.trimmed - place - self._number)

    def go_on(self, entries: Sequence[ReadEntry], lost: int | None, facts: StreamFacts | None) -> None:
        """Take notice that ``entries`` were read, before which ``lost`` were missing."""
        self._last, self._head = parse_id(entries[-1].id), _head_of(entries[-1])
        if self._number is not None:
            self._number += len(entries) + (lost or 0)
        if facts is not None and facts.trimmed is None:
            self.counts = True
        elif facts is not None and facts.trimmed is not None:
            place = _place(facts.first, entries)
            if place is not None:
                self._number = facts.trimmed - place + len(entries)
            elif facts.last == entries[-1].id:
                self._number = facts.added
            self.counts = self._number is not None


def _place(first: EntryId | None, entries: Sequence[ReadEntry]) -> int | None:
    """Where among ``entries`` the oldest one of the stream is."""
    return next((k for k, entry in enumerate(entries) if parse_id(entry.id) == first), None)


def _head_of(entry: ReadEntry) -> _Head | None:
    try:
        return msgspec.json.decode(entry.payload or b"", type=_Head)
    except msgspec.DecodeError:
        return None
