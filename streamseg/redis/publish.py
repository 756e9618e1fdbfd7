"""Frame results, and JPEG overlays if asked for, as Redis streams."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import msgspec
import numpy as np
import redis
from numpy.typing import NDArray

from streamseg.config import OverlayOptions
from streamseg.errors import OutputError
from streamseg.overlay.paint import Painter
from streamseg.redis.connection import Broker, BrokerGoneError
from streamseg.redis.replay import Recent, entry_id
from streamseg.redis.status import StatusBoard
from streamseg.types import Frame, FramePolicy, FrameResult, Instances, StreamInfo

logger = logging.getLogger(__name__)

KNOWN_STREAMS = "streamseg:streams"
_JPEG_QUALITY = 80
PATIENCE = 120.0
"""Seconds: time for a broker to be restarted on another machine."""

Fields = Mapping[str, bytes | str | int | float]


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is added to one Redis stream."""

    key: str
    fields: Fields
    maxlen: int

    def add(self, client: redis.Redis, id_: str) -> object:
        """XADD, on a connection or into a pipeline."""
        fields: Any = self.fields  # redis-py's type asks for a dict of unions
        return client.xadd(self.key, fields, id=id_, maxlen=self.maxlen, approximate=True)

    def is_at(self, client: redis.Redis, id_: str) -> bool:
        """Whether the entry stands under that id already."""
        found: Any = client.xrange(self.key, id_, id_)
        name, value = next(iter(self.fields.items()))
        return bool(found) and found[0][1].get(name.encode()) == value


@dataclass(slots=True)
class _Stream:
    live: bool
    recent: Recent
    announced: bool = False
    milliseconds: int = 0
    sequence: int = 0
    """The last entry id, in its two parts."""
    undelivered: int = 0
    published: int = -1
    """Number of the last frame that an interrupted run published of this stream."""

    def next_id(self, after: tuple[int, int] = (0, 0)) -> str:
        """An entry id later than all before and than ``after``, by the clock where it can be."""
        now = time.time_ns() // 1_000_000
        last = max((self.milliseconds, self.sequence), after)
        self.milliseconds, self.sequence = (now, 0) if now > last[0] else (last[0], last[1] + 1)
        return f"{self.milliseconds}-{self.sequence}"


class RedisOutput:
    """Publishes to ``streamseg:{STREAM}:results``, ``:overlays``, ``:status`` and ``streamseg:streams``.

    While the broker is down, ``write`` waits and the queue in front keeps the backlog. Every entry
    gets its id here, before it is first sent, and is sent again under the same id when the answer
    was lost: the broker takes no id twice, so what arrived stays there once. Results of the last
    seconds are sent again as well to a broker that died and comes back without them.
    """

    pixels_optional = True

    def __init__(
        self,
        url: str,
        *,
        overlays: bool = False,
        maxlen: int = 1000,
        overlays_maxlen: int = 50,
        patience: float = PATIENCE,
        overlay: OverlayOptions | None = None,
    ) -> None:
        """Set up; connects to nothing yet.

        Args:
            url: ``redis://`` or ``rediss://``; user and password may come from the environment
                instead, ``REDIS_USERNAME`` and ``REDIS_PASSWORD``.
            overlays: Publish the painted pictures too, as JPEG.
            maxlen: Results kept per stream, about.
            overlays_maxlen: Overlays kept per stream, about.
            patience: Seconds to wait for a broker that is down once all sources have ended by themselves;
                a user who stops the run sets his own limit.
            overlay: What the painted pictures show.

        Raises:
            UsageError: The URL is not valid.
        """
        self.needs_pixels = overlays
        self._painter = Painter(overlay)
        self._broker = Broker(url, patience=patience, connected=self._restore)
        self._status = StatusBoard(Broker(url, patience=0))
        self._maxlen, self._overlays_maxlen = maxlen, overlays_maxlen
        self._encoder = msgspec.json.Encoder()
        self._streams: dict[str, _Stream] = {}
        self._checked = False
        self._resumed: dict[str, float] = {}

    def check(self, streams: Sequence[str] = ()) -> None:  # noqa: ARG002  one broker for all
        """Make sure, before anything is processed, that the broker lets us in. Raises UsageError.

        One that cannot be reached is warned of and tried again with every result.
        """
        self._checked = True
        self._broker.check()

    def report(self, stream: str, **fields: str | float) -> None:
        """Set fields of the status hash that only the pipeline knows (``state``, ``dropped``, ``error``)."""
        self._status.report(stream, **fields)

    def take_over(self, stream: str, *, began: float) -> None:
        """Pass over what the broker has of an interrupted run, which began at ``began`` UNIX seconds.

        The results of the stream are to be written again, all of them and in order.
        """
        self._resumed[stream] = began

    def open(self, info: StreamInfo) -> None:
        """Make the stream known. Raises UsageError or OutputError."""
        if not self._checked:
            self.check()
        if info.stream not in self._streams:
            live = info.policy is FramePolicy.NEWEST_FRAME
            recent = Recent(_key(info.stream, "results"), "result", self._maxlen)
            self._streams[info.stream] = _Stream(live, recent, published=self._published(info.stream))
        self._status.opened(info)

    def _published(self, stream: str) -> int:
        """Number of the last frame published by the run that is resumed, -1 if the broker has none."""
        began = self._resumed.pop(stream, None)
        if began is None:
            return -1
        newest: Any = self._broker.retry(lambda client: client.xrevrange(_key(stream, "results"), count=1))
        try:
            last = msgspec.json.decode(newest[0][1][b"result"], type=FrameResult)
        except (LookupError, msgspec.DecodeError):
            return -1
        return last.frame if last.time >= began else -1  # else it is of an earlier run

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        """Publish a result, and its overlay if there are pixels. Raises OutputError."""
        stream = self._streams[result.stream]
        if result.frame <= stream.published and not stream.live:
            return
        id_ = stream.next_id()
        encoded = self._encoder.encode(result)
        entries = [_Entry(stream.recent.key, {"result": encoded}, self._maxlen)]
        if self.needs_pixels and frame is not None and instances is not None:
            jpeg = _jpeg(self._painter.paint(frame, instances))
            fields: Fields = {"jpeg": jpeg, "frame": result.frame, "pts": result.pts}
            entries.append(_Entry(_key(result.stream, "overlays"), fields, self._overlays_maxlen))
        try:
            id_ = self._broker.retry(lambda client: self._send(client, result.stream, stream, id_, entries))
        except BrokerGoneError:
            if not stream.live:
                raise
            stream.undelivered += 1
        else:
            stream.recent.add(id_, encoded)
            self._status.published(result)

    def close(self, stream: str, *, complete: bool) -> None:
        """Say in the status that the stream has ended, or failed."""
        self._painter.forget(stream)
        if (closed := self._streams.pop(stream, None)) is None:
            return
        self._status.closed(stream, complete=complete)
        if closed.undelivered:
            logger.warning(
                "%s was away at the end: %d results of stream %s dropped",
                self._broker.name,
                closed.undelivered,
                stream,
            )

    def hurry(self, patience: float | None = None) -> None:
        """Take notice that the run is over: a broker that is down is waited for ``patience`` seconds."""
        self._broker.hurry(patience)

    def shutdown(self) -> None:
        """Publish the last status and disconnect."""
        self._status.stop()
        self._broker.close()

    def _restore(self, connection: Any) -> None:
        """Bring a broker that forgot its last seconds up to date, before it gets anything newer."""
        for name, stream in self._streams.items():
            if count := stream.recent.restore(connection):
                logger.warning("%s had lost %d results of stream %s", self._broker.name, count, name)

    @staticmethod
    def _send(client: redis.Redis, name: str, stream: _Stream, id_: str, entries: list[_Entry]) -> str:
        """Add the entries in one round trip, all under one id. May be run again. Returns the first's id."""
        first = id_
        with client.pipeline(transaction=False) as pipe:
            for entry in entries:
                entry.add(pipe, id_)
            if not stream.announced:
                pipe.sadd(KNOWN_STREAMS, name)
            answers = pipe.execute(raise_on_error=False)
        for answer, entry in zip(answers, entries, strict=False):
            if _is_late(answer):
                settled = _settle(client, stream, id_, entry)
                first = settled if entry is entries[0] else first
            elif isinstance(answer, Exception):
                raise answer
        stream.announced = True
        return first


def _settle(client: redis.Redis, stream: _Stream, id_: str, entry: _Entry) -> str:
    """The broker has that id or a later one: fine if the entry is ours, from a try whose answer was lost.

    Else another run with a clock ahead of ours wrote to the stream: go on behind it. Returns its id.
    """
    if entry.is_at(client, id_):
        return id_
    for _ in range(100):  # another writer may get in between again and again
        info: Any = client.xinfo_stream(entry.key)
        next_id = stream.next_id(after=entry_id(info["last-generated-id"]))
        try:
            entry.add(client, next_id)
        except redis.ResponseError as error:
            if not _is_late(error):
                raise
        else:
            return next_id
    raise OutputError(f"{entry.key}: another program writes to it all the time")


def _is_late(answer: object) -> bool:
    return isinstance(answer, redis.ResponseError) and "equal or smaller" in str(answer)


def _key(stream: str, kind: str) -> str:
    return f"streamseg:{{{stream}}}:{kind}"


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    return data.tobytes()
