"""A subscriber that gets all results of some streams: where it stands in each, what was read already.

One XREAD reads all streams, whose keys lie in different slots of a Redis cluster: there, subscribe to each
stream of its own.
"""

import logging
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from streamseg.errors import UsageError
from streamseg.redis.dialogue import Steps, Wait
from streamseg.redis.entries import parse_id
from streamseg.redis.keys import STREAMS_KEY, results_key, stream_of
from streamseg.types import RESULT_VERSION, FrameResult
from streamseg.types.ids import parse_stream_id

logger = logging.getLogger(__name__)

Start = str | Mapping[str, str]
"""``"now"``, ``"start"``, an entry id to go on after, or such an id for each stream."""

_COUNT = 64
"""Entries of a stream read at once: a megabyte or two with many masks."""
_BEGINNING = "0-0"
_ID = re.compile(r"\d+(-\d+)?")


class ReadEntry(NamedTuple):
    """An entry of a stream's results, as the broker gave it."""

    stream: str
    id: str
    payload: bytes | None
    """The field ``result``; None if there is none, or the entry was trimmed meanwhile."""


class PlainReader:
    """Reads all results, independent of other subscribers."""

    def __init__(self, streams: Sequence[str] | None, start: Start) -> None:
        """``streams``: their ids, None for all there are. Raises UsageError."""
        self._wanted = set(checked_streams(streams))
        check_start(start)
        self.positions: dict[str, str] = {}
        """Id of the last entry handed out, by stream."""
        self._discovers = streams is None
        self._start = start
        self._ready: deque[ReadEntry] = deque()

    def begin(self) -> Steps[None]:
        """Find the streams, and where "now" is in each."""
        if self._discovers:
            self._wanted |= yield from known_streams()
        for stream in sorted(self._wanted - self.positions.keys()):
            if not self._place(stream):
                newest = yield ("XREVRANGE", results_key(stream), "+", "-", "COUNT", 1)
                self.positions[stream] = newest[0][0].decode() if newest else _BEGINNING
        if self._start == "now":
            self._start = "start"  # a stream that appears from now on is read from its beginning

    def read(self, block: float) -> Steps[None]:
        """Get more results; the broker may take ``block`` seconds."""
        yield from self.begin()
        if not self.positions:
            yield Wait(block)
            return
        options = ("XREAD", "COUNT", _COUNT, "BLOCK", milliseconds(block), "STREAMS")
        answer = yield (*options, *map(results_key, self.positions), *self.positions.values())
        self._ready.extend(read_entries(answer))

    def next_result(self) -> FrameResult | None:
        """Hand out the next result; None when more have to be read."""
        while self._ready:
            entry = self._ready.popleft()
            self.positions[entry.stream] = entry.id
            if (result := decode_result(entry)) is not None:
                return result
        return None

    def end(self, *, handled: bool) -> Steps[None]:  # noqa: ARG002  nobody else waits for the results
        """Nothing to leave behind."""
        yield from ()

    def _place(self, stream: str) -> bool:
        if isinstance(self._start, Mapping):
            self.positions[stream] = self._start.get(stream, _BEGINNING)
        elif self._start != "now":
            self.positions[stream] = _BEGINNING if self._start == "start" else self._start
        return stream in self.positions


def checked_streams(streams: Sequence[str] | None) -> list[str]:
    """Stream ids as they are published. Raises UsageError unless these are some."""
    if isinstance(streams, str):
        raise UsageError(f"streams must be a list of ids, not the text {streams!r}")
    return [_checked_stream(stream) for stream in streams or ()]


def _checked_stream(stream: str) -> str:
    try:
        return parse_stream_id(stream)
    except ValueError as error:
        raise UsageError(f"stream id {stream!r}: {error}") from error


def check_start(start: Start) -> None:
    """Raise UsageError unless this says where to begin."""
    ids = [start] if isinstance(start, str) else start.values()
    for bad in (id_ for id_ in ids if not _ID.fullmatch(id_) and start not in ("now", "start")):
        raise UsageError(f'start {bad!r} must be "now", "start" or an entry id such as 1690000000000-0')


def known_streams() -> Steps[set[str]]:
    """Ask for the ids of all streams."""
    members: Iterable[bytes] = yield ("SMEMBERS", STREAMS_KEY)
    return {member.decode() for member in members}


def milliseconds(seconds: float) -> int:
    """For BLOCK, where 0 would be for ever."""
    return max(1, int(1000 * seconds))


def read_entries(
    answer: Iterable[tuple[bytes, Iterable[tuple[bytes | None, Mapping[bytes, bytes] | None]]]] | None,
) -> list[ReadEntry]:
    """What XREAD or XREADGROUP answered; entries of all streams in the order of their ids, i.e. by time."""
    entries = [
        ReadEntry(stream_of(key), id_.decode(), (fields or {}).get(b"result"))
        for key, of_stream in answer or ()
        for id_, fields in of_stream
        if id_ is not None  # Redis 6.2 says so of entries that it trimmed and then gave to us
    ]
    return sorted(entries, key=lambda entry: parse_id(entry.id))


def decode_result(entry: ReadEntry) -> FrameResult | None:
    """The result in an entry; None, and a warning, if it is none of this version."""
    try:
        result = msgspec.json.decode(entry.payload or b"", type=FrameResult)
    except msgspec.DecodeError as error:
        logger.warning("stream %s: entry %s is no frame result, left out (%s)", entry.stream, entry.id, error)
        return None
    if result.v != RESULT_VERSION:
        logger.warning("stream %s: entry %s is of version %d, left out", entry.stream, entry.id, result.v)
        return None
    return result
