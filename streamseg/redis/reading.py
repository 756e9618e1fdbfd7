"""What both subscriptions share: positions in the streams, decoding, what counts as an outage.

Nothing here talks to the broker: a reader says what to ask next, step by step, and the synchronous or
asynchronous subscription asks it. One XREAD reads all streams, whose keys lie in different slots of
a Redis cluster: there, subscribe to each stream of its own.
"""

import logging
import re
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import redis

from streamseg.errors import RunError, UsageError, mask_password
from streamseg.redis.url import check_redis_url, connection_options, refuses_tls
from streamseg.types import RESULT_VERSION, FrameResult

logger = logging.getLogger(__name__)

KNOWN_STREAMS = "streamseg:streams"
DISCOVER_EVERY = 1.0
"""Seconds one XREAD may block: how often new streams are looked for."""
BATCH = 64
"""Entries of a stream read at once: a megabyte or two with many masks."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between attempts to reach the broker."""
BEGINNING = "0-0"

Start = str | Mapping[str, str]
"""``"now"``, ``"start"``, an entry id to go on after, or such an id for each stream."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to ask for so many seconds."""

    seconds: float


Command = tuple[str | int, ...]
Steps = Generator[Command | Wait, Any, None]
"""Yields commands for the broker and is sent their answers; errors of the broker are raised inside."""


class Reading(Protocol):
    """What a subscription asks the broker, in which order, and what it makes of the answers."""

    positions: dict[str, str]
    """Id of the last entry handed out, by stream."""

    def begin(self) -> Steps:
        """Find the streams, and where "now" is in each."""

    def read(self, block: float) -> Steps:
        """Get more results; the broker may take ``block`` seconds."""

    def next_result(self) -> FrameResult | None:
        """Hand out the next result; None when more have to be read."""

    def interrupted(self) -> None:
        """Take notice that the connection was lost: the answer to the last command may have been, too."""

    def end(self, *, handled: bool) -> Steps:
        """The subscriber leaves; ``handled``: it was through with the last result."""


_ID = re.compile(r"\d+(-\d+)?")
_STREAM = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def results_key(stream: str) -> str:
    """Redis key of a stream's results."""
    return f"streamseg:{{{stream}}}:results"


def client_options(url: str) -> dict[str, Any]:
    """How clients connect. Raises UsageError if the URL is not valid."""
    check_redis_url(url)
    # XREAD blocks for the first part of this time-out.
    return connection_options(socket_timeout=DISCOVER_EVERY + 10.0, connect_timeout=5.0)


class Reader:
    """Where a subscription stands in each stream, and the entries read but not handed out yet."""

    def __init__(self, streams: Sequence[str] | None, start: Start) -> None:
        """``streams``: their ids, None for all there are. Raises UsageError."""
        check_streams(streams)
        check_start(start)
        self.discovers = streams is None
        self.positions: dict[str, str] = {}
        """Id of the last entry handed out, by stream."""
        self._wanted = set(streams or ())
        self._start = start
        self._ready: deque[Entry] = deque()

    def begin(self) -> Steps:
        """Find the streams, and where "now" is in each."""
        if self.discovers:
            self._wanted |= streams_of((yield ("SMEMBERS", KNOWN_STREAMS)))
        for stream in sorted(self._wanted - self.positions.keys()):
            if not self._place(stream):
                newest = yield ("XREVRANGE", results_key(stream), "+", "-", "COUNT", 1)
                self.positions[stream] = newest[0][0].decode() if newest else BEGINNING
        if self._start == "now":
            self._start = "start"  # a stream that appears from now on is read from its beginning

    def read(self, block: float) -> Steps:
        """Get more results; the broker may take ``block`` seconds."""
        yield from self.begin()
        if not self.positions:
            yield Wait(block)
            return
        options = ("XREAD", "COUNT", BATCH, "BLOCK", milliseconds(block), "STREAMS")
        answer = yield (*options, *map(results_key, self.positions), *self.positions.values())
        self._ready.extend(entries_of(answer))

    def next_result(self) -> FrameResult | None:
        """Hand out the next result; None when more have to be read."""
        while self._ready:
            stream, id_, payload = self._ready.popleft()
            self.positions[stream] = id_
            if (result := decoded(payload, stream, id_)) is not None:
                return result
        return None

    def interrupted(self) -> None:
        """Nothing is lost with an answer: the next XREAD asks for the same entries."""

    def end(self, *, handled: bool) -> Steps:  # noqa: ARG002  nobody else waits for the results
        """Nothing to leave behind."""
        yield from ()

    def _place(self, stream: str) -> bool:
        if isinstance(self._start, Mapping):
            self.positions[stream] = self._start.get(stream, BEGINNING)
        elif self._start != "now":
            self.positions[stream] = BEGINNING if self._start == "start" else self._start
        return stream in self.positions


def check_streams(streams: Sequence[str] | None) -> None:
    """Raise UsageError unless these are stream ids."""
    if isinstance(streams, str):
        raise UsageError(f"streams must be a list of ids, not the text {streams!r}")
    for bad in (s for s in streams or () if not _STREAM.fullmatch(s)):
        raise UsageError(f"stream id {bad!r} must match [A-Za-z0-9_.-]{{1,64}}")


def check_start(start: Start) -> None:
    """Raise UsageError unless this says where to begin."""
    for bad in (s for s in _ids_of(start) if not _ID.fullmatch(s)):
        raise UsageError(f'start {bad!r} must be "now", "start" or an entry id such as 1690000000000-0')


def _ids_of(start: Start) -> Sequence[str]:
    if isinstance(start, Mapping):
        return list(start.values())
    return [] if start in {"now", "start"} else [start]


def milliseconds(block: float) -> int:
    """For BLOCK, where 0 would be for ever."""
    return max(1, int(1000 * block))


def streams_of(members: Iterable[bytes]) -> set[str]:
    """The stream ids in the broker's set of them."""
    return {stream.decode() for stream in members}


Entry = tuple[str, str, bytes | None]
"""Stream, entry id, the field ``result``; None if the entry has none or was trimmed meanwhile."""


def entries_of(
    answer: Iterable[tuple[bytes, Iterable[tuple[bytes | None, Mapping[bytes, bytes] | None]]]] | None,
) -> list[Entry]:
    """What XREAD or XREADGROUP answered; entries of all streams in the order of their ids, i.e. by time."""
    entries = [
        (
            _order(id_),
            key.decode().partition("{")[2].partition("}")[0],
            id_.decode(),
            (fields or {}).get(b"result"),
        )
        for key, of_stream in answer or ()
        for id_, fields in of_stream
        if id_ is not None  # Redis 6.2 says so of entries that it trimmed and then gave to us
    ]
    return [entry[1:] for entry in sorted(entries, key=lambda entry: entry[0])]


def _order(id_: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = id_.partition(b"-")
    return int(milliseconds), int(sequence)


def decoded(payload: bytes | None, stream: str, id_: str) -> FrameResult | None:
    """The result in an entry; None, and a warning, if it is none of this version."""
    try:
        result = msgspec.json.decode(payload or b"", type=FrameResult)
    except msgspec.DecodeError as error:
        logger.warning("stream %s: entry %s is no frame result, left out (%s)", stream, id_, error)
        return None
    if result.v != RESULT_VERSION:
        logger.warning("stream %s: entry %s is of version %d, left out", stream, id_, result.v)
        return None
    return result


def check_passing(error: redis.RedisError) -> None:
    """Raise what will not get better by itself.

    Raises:
        UsageError: The broker refuses user, password, database or encryption.
        RunError: It refuses what we ask for.
    """
    text = mask_password(str(error))
    refused = isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError)
    if refused or refuses_tls(error):
        raise UsageError(f"Redis refuses us: {text}") from None
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return
    if isinstance(error, redis.exceptions.ClusterDownError | redis.exceptions.TryAgainError):
        return
    if "DB index" in text:
        raise UsageError(f"Redis refuses us: {text}") from None
    raise RunError(f"Redis: {text}") from None
