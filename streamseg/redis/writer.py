"""What publishes the results and overlays of one stream."""

import logging

import msgspec
import redis

from streamseg.overlay.jpeg import encode_jpeg
from streamseg.overlay.paint import Painter
from streamseg.redis.entries import AddEntries, EntryIds, Fields, NewEntry, add_all, add_freely
from streamseg.redis.keys import STREAMS_KEY, events_key, overlays_key, results_key
from streamseg.redis.owner import Ownership
from streamseg.redis.replay import ReplayBuffer
from streamseg.redis.retry import BrokerGoneError, RetryingClient
from streamseg.redis.status import StatusBoard
from streamseg.types import Frame, FramePolicy, FrameResult, Instances, StreamEnd, StreamInfo, StreamWriter
from streamseg.types.zones import ZoneEvent

logger = logging.getLogger(__name__)

_JPEG_QUALITY = 80


class RedisWriter(StreamWriter):
    """Publishes one stream; waits while the broker is down."""

    def __init__(
        self,
        info: StreamInfo,
        *,
        client: RetryingClient,
        status: StatusBoard,
        buffer: ReplayBuffer,
        event_buffer: ReplayBuffer,
        lengths: tuple[int, int],
        painter: Painter | None,
        published: int = -1,
    ) -> None:
        """Set up.

        Args:
            info: The stream.
            client: Where results and overlays go.
            status: Is told of every result.
            buffer: Gets every result that was published.
            event_buffer: Gets every event.
            lengths: Results and overlays kept, about.
            painter: Of this stream alone; None: no overlays.
            published: Number of the last frame that an interrupted run has published, -1 if none.
        """
        self._stream, self._live = info.stream, info.policy is FramePolicy.NEWEST_FRAME
        self._client, self._status, self._painter = client, status, painter
        self._buffer, self._event_buffer = buffer, event_buffer
        self._maxlen, self._overlays_maxlen = lengths
        self._published = published
        self._ids, self._encoder = EntryIds(), msgspec.json.Encoder()
        self._announced = self._written = False
        self._undelivered = 0
        self._add: AddEntries = add_freely
        self._own(info)

    def _own(self, info: StreamInfo) -> None:
        ownership = Ownership.of(info)
        self._add = add_freely if ownership is None else ownership.add
        self._buffer.ownership = self._event_buffer.ownership = ownership

    def begin_epoch(self, info: StreamInfo) -> None:
        """Tell it in the status."""
        self._own(info)
        self._status.opened(info)

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        """Publish a result, and its overlay if there are pixels.

        Raises OutputError; NotOwnerError if another engine has the stream by now.
        """
        if result.frame <= self._published:
            return
        encoded = self._encoder.encode(result)
        entries = [NewEntry(results_key(self._stream), {"result": encoded}, self._maxlen)]
        if self._painter is not None and frame is not None and instances is not None:
            painted = self._painter.paint(frame, instances, result.counts)
            jpeg = encode_jpeg(painted, quality=_JPEG_QUALITY)
            fields: Fields = {"jpeg": jpeg, "frame": result.frame, "pts": result.pts}
            entries.append(NewEntry(overlays_key(self._stream), fields, self._overlays_maxlen))
        id_ = self._ids.next()
        try:
            id_ = self._client.retry(lambda client: self._send(client, entries, id_), worked=self._written)
            # Before the events: the broker may be gone by then, and come back without this result.
            self._buffer.add(id_, encoded)
            for event in result.events or ():
                self._tell(event)
        except BrokerGoneError:
            if not self._live:
                raise
            self._undelivered += 1
        else:
            self._written = True
            self._status.published(result)

    def close(self, end: StreamEnd) -> None:
        """Say in the status how the stream has ended."""
        self._buffer.close()
        self._event_buffer.close()
        self._status.closed(self._stream, end)
        if self._undelivered:
            logger.warning(
                "%s took nothing at the end: %d results of stream %s dropped",
                self._client.broker,
                self._undelivered,
                self._stream,
            )

    def _tell(self, event: ZoneEvent) -> None:
        """An entry of its own for each event: two of one frame cannot have one id."""
        encoded = self._encoder.encode(event)
        entry, id_ = NewEntry(events_key(self._stream), {"event": encoded}, self._maxlen), self._ids.next()
        id_ = self._client.retry(
            lambda client: add_all(client, [entry], id_, self._ids, add=self._add), worked=True
        )
        self._event_buffer.add(id_, encoded)

    def _send(self, client: redis.Redis, entries: list[NewEntry], id_: str) -> str:
        """May be run again. Returns the id of the result's entry."""
        if not self._announced:
            client.sadd(STREAMS_KEY, self._stream)
            self._announced = True
        return add_all(client, entries, id_, self._ids, add=self._add)
