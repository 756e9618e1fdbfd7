"""What both subscriptions share: positions in the streams, decoding, what counts as an outage.

Nothing here talks to the broker. One XREAD reads all streams, whose keys lie in different slots of
a Redis cluster: there, subscribe to each stream of its own.
"""

import logging
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import redis

from streamseg.errors import RunError, UsageError, mask_password
from streamseg.redis_url import check_redis_url, connection_options, refuses_tls
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
        if isinstance(streams, str):
            raise UsageError(f"streams must be a list of ids, not the text {streams!r}")
        for bad in (s for s in streams or () if not _STREAM.fullmatch(s)):
            raise UsageError(f"stream id {bad!r} must match [A-Za-z0-9_.-]{{1,64}}")
        self.discovers = streams is None
        self.positions: dict[str, str] = {}
        """Id of the last entry handed out, by stream."""
        self._wanted = set(streams or ())
        self._start = start
        self._ready: deque[tuple[str, str, bytes | None]] = deque()
        for bad in (s for s in _ids_of(start) if not _ID.fullmatch(s)):
            raise UsageError(f'start {bad!r} must be "now", "start" or an entry id such as 1690000000000-0')

    def learn(self, streams: Iterable[bytes]) -> None:
        """Take notice of the streams that exist now."""
        self._wanted.update(stream.decode() for stream in streams)

    def unplaced(self) -> list[str]:
        """Streams whose last entry has to be looked up before they can be read from "now"."""
        return [stream for stream in sorted(self._wanted - self.positions.keys()) if not self._place(stream)]

    def place(self, stream: str, last: Sequence[tuple[bytes, Any]]) -> None:
        """Begin after ``last``, the newest entry of a stream (none if it is empty)."""
        self.positions[stream] = last[0][0].decode() if last else BEGINNING

    def begun(self) -> None:
        """The start is found: a stream that appears from now on is read from its beginning."""
        if self._start == "now":
            self._start = "start"

    def xread(self) -> dict[str, str]:
        """Keys and the ids to read after."""
        return {results_key(stream): id_ for stream, id_ in self.positions.items()}

    def take(self, answer: Iterable[tuple[bytes, Iterable[tuple[bytes, Mapping[bytes, bytes]]]]]) -> None:
        """Take in what XREAD answered; entries of all streams in the order of their ids, i.e. by time."""
        entries = [
            (
                _order(id_),
                key.decode().partition("{")[2].partition("}")[0],
                id_.decode(),
                fields.get(b"result"),
            )
            for key, of_stream in answer or ()
            for id_, fields in of_stream
        ]
        self._ready.extend(entry[1:] for entry in sorted(entries, key=lambda entry: entry[0]))

    def next_result(self) -> FrameResult | None:
        """Hand out the next result; None when another XREAD is due."""
        while self._ready:
            stream, id_, payload = self._ready.popleft()
            self.positions[stream] = id_
            if (result := _decoded(payload, stream, id_)) is not None:
                return result
        return None

    def _place(self, stream: str) -> bool:
        if isinstance(self._start, Mapping):
            self.positions[stream] = self._start.get(stream, BEGINNING)
        elif self._start != "now":
            self.positions[stream] = BEGINNING if self._start == "start" else self._start
        return stream in self.positions


def _ids_of(start: Start) -> Sequence[str]:
    if isinstance(start, Mapping):
        return list(start.values())
    return [] if start in {"now", "start"} else [start]


def _order(id_: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = id_.partition(b"-")
    return int(milliseconds), int(sequence)


def _decoded(payload: bytes | None, stream: str, id_: str) -> FrameResult | None:
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
