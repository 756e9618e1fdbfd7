"""A subscriber that gets all results of some streams: where it stands in each, what was read already.

One XREAD reads all streams, whose keys lie in different slots of a Redis cluster: there, subscribe to each
stream of its own.
"""

import logging
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import redis

from streamseg.errors import UsageError
from streamseg.redis.dialogue import Steps, Wait
from streamseg.redis.entries import ReadEntry, parse_id
from streamseg.redis.gaps import Gap, StreamFacts, Trail
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
        self._trails: dict[str, Trail] = {}
        self._watches = True
        """Whether we may ask for what is missing."""
        self._ready: deque[ReadEntry | Gap] = deque()

    def begin(self) -> Steps[None]:
        """Find the streams, and where "now" is in each."""
        if self._discovers:
            self._wanted |= yield from known_streams()
        for stream in sorted(self._wanted - self.positions.keys()):
            facts = yield from self._facts(stream)
            position = self._place(stream)
            if position is None and facts is not None:
                position = facts.last
            elif position is None:
                newest = yield ("XREVRANGE", results_key(stream), "+", "-", "COUNT", 1)
                position = newest[0][0].decode() if newest else _BEGINNING
            self._trails[stream] = Trail.after(position, facts)
            self.positions[stream] = position
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
        entries = read_entries(answer)
        gaps = yield from self._look_for_gaps(entries)
        for entry in entries:
            if gap := gaps.pop(entry.stream, None):
                self._ready.append(gap)
            self._ready.append(entry)

    def next_item(self) -> FrameResult | Gap | None:
        """Hand out the next result, or where some are missing; None when more have to be read."""
        while self._ready:
            item = self._ready.popleft()
            if isinstance(item, Gap):
                return item
            self.positions[item.stream] = item.id
            if (result := decode_result(item)) is not None:
                return result
        return None

    def end(self, *, handled: bool) -> Steps[None]:  # noqa: ARG002  nobody else waits for the results
        """Do nothing: no position is kept on the broker."""
        yield from ()

    def _place(self, stream: str) -> str | None:
        """Id of the entry to begin after; None: of the newest one."""
        if isinstance(self._start, Mapping):
            return self._start.get(stream, _BEGINNING)
        return {"now": None, "start": _BEGINNING}.get(self._start, self._start)

    def _look_for_gaps(self, entries: Sequence[ReadEntry]) -> Steps[dict[str, Gap]]:
        """What is missing before the first one of ``entries`` of each stream; they are read with that."""
        found: list[tuple[str, list[ReadEntry], int | None, StreamFacts | None]] = []
        for stream in dict.fromkeys(entry.stream for entry in entries):
            of_stream = [entry for entry in entries if entry.stream == stream]
            trail, facts = self._trails[stream], None
            asks = not trail.counts
            if not asks and not trail.goes_on_with(of_stream[0]):
                asks = yield from self._may_miss(stream, len(of_stream))
            if asks:
                facts = yield from self._facts(stream)
            lost = 0 if facts is None else trail.lost_before(of_stream, facts)
            found.append((stream, of_stream, lost, facts))
        for stream, of_stream, lost, facts in found:  # none before all is known: an attempt may fail
            self._trails[stream].go_on(of_stream, lost, facts)
        return {stream: Gap(stream, lost) for stream, _, lost, _ in found if lost != 0}

    def _may_miss(self, stream: str, count: int) -> Steps[bool]:
        """Whether entries before the last ``count`` may be gone: the broker has no more, or many more."""
        if not self._watches:
            return False
        if count == _COUNT:
            return True
        try:
            length: int = yield ("XLEN", results_key(stream))
        except redis.exceptions.NoPermissionError:
            self._watches = False
            return False
        return length <= count

    def _facts(self, stream: str) -> Steps[StreamFacts | None]:
        """What the broker says of a stream; None: there is none, or we may not ask."""
        if not self._watches:
            return None
        try:
            return StreamFacts.of((yield ("XINFO", "STREAM", results_key(stream))))
        except redis.exceptions.NoPermissionError as error:
            logger.info("results that were trimmed before they were read go unnoticed (%s)", error)
            self._watches = False
        except redis.ResponseError as error:
            if "no such key" not in str(error):
                raise
        return None


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
