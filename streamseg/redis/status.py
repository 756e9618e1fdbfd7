"""The status hash of every stream, kept fresh in Redis by a thread of its own.

The hash has to change when nothing happens (a camera goes silent, the process is killed), so it
cannot be written along with the results.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import redis

from streamseg.errors import mask_password
from streamseg.redis.connection import broker_name, connect
from streamseg.redis.group_watch import GroupWatch
from streamseg.redis.keys import STREAMS_KEY, status_key
from streamseg.redis.owner import set_status
from streamseg.redis.trouble import Outage
from streamseg.types import FramePolicy, FrameResult, StreamEnd, StreamInfo, StreamState

_INTERVAL = 1.0
"""Seconds between two updates."""
_TTL = 15
"""Seconds: soon after the process died its streams have no status."""
_ENDED_TTL = 3600
"""Seconds: time to look up how a stream ended."""
_LAST_UPDATE = 3.0
"""Seconds that the last update may take: a broker that hangs must not hold up the end."""

Value = str | int | float
_Snapshot = tuple[dict[str, Value], bool]
_OVER = {StreamState.ENDED.value, StreamState.FAILED.value}


@dataclass(slots=True)
class _StreamStatus:
    reported: dict[str, Value] = field(default_factory=dict)
    info: StreamInfo | None = None
    frames: int = 0
    last_index: int = -1
    dropped: int = 0
    over: bool = False
    sent: _Snapshot | None = None
    """What the broker has taken last."""
    refused: Value | None = None
    """The first epoch with which another engine was found to own the stream."""

    @property
    def first_epoch(self) -> Value | None:
        """See :attr:`StreamInfo.first_epoch`."""
        return self.reported.get("first_epoch")

    @property
    def is_due(self) -> bool:
        """Whether to publish it: its end is not published yet, and no other engine owns the stream."""
        settled = self.over and self.snapshot() == self.sent
        return not settled and (self.refused is None or self.refused != self.first_epoch)

    def snapshot(self) -> _Snapshot:
        """All fields as they are now, and whether the stream is over."""
        fields: dict[str, Value] = {"state": StreamState.CONNECTING.value, "error": ""}
        if self.info is not None:
            fields |= {"state": StreamState.LIVE.value, "frames": self.frames, "dropped": self.dropped}
            fields |= _described(self.info)
        return fields | self.reported, self.over


class StatusBoard:
    """Knows the state of every stream and publishes it once a second. All methods in any thread."""

    def __init__(self, url: str, *, password_file: str | None = None) -> None:
        """Connects to nothing and starts no thread before there is a stream. Raises UsageError."""
        self._client = connect(url, password_file=password_file)
        self.outage = Outage(broker_name(self._client), level=logging.DEBUG)
        """Also noticed while there are no results; of what it means for them, their writers tell."""
        self.groups = GroupWatch(self.outage.broker)
        self._streams: dict[str, _StreamStatus] = {}
        self._lock = threading.Lock()
        self._news, self._stopping = threading.Event(), False
        self._thread: threading.Thread | None = None

    def opened(self, info: StreamInfo) -> None:
        """A stream opened, or opened again."""
        with self._lock:
            status = self._status(info.stream)
            status.info = info
            if info.first_epoch is not None:
                status.reported["first_epoch"] = info.first_epoch
            if status.over:  # it was removed from the run and came back
                status.over = False
                status.reported["state"] = StreamState.LIVE.value
        self._news.set()

    def published(self, result: FrameResult) -> None:
        """A result was delivered; numbers that are missing before it are dropped frames of a live stream."""
        with self._lock:
            status = self._status(result.stream)
            if status.info is not None and status.info.policy is FramePolicy.NEWEST_FRAME:
                status.dropped += max(0, result.frame - status.last_index - 1)
            status.frames += 1
            status.last_index = result.frame
            status.reported["last_frame_time"] = result.time

    def closed(self, stream: str, end: StreamEnd) -> None:
        """A stream came to its end: as failed also if it could not be written, whatever its source does."""
        state = StreamState.FAILED if end is StreamEnd.FAILED else StreamState.ENDED
        with self._lock:
            status = self._status(stream)
            if end is StreamEnd.FAILED and status.reported.get("state") not in _OVER:
                return
            status.reported["state"] = state.value
            status.over = True
        self._news.set()

    def report(self, stream: str, **fields: Value) -> None:
        """Set fields that are not known here; they stay until set again. A new state is published at once."""
        with self._lock:
            status = self._status(stream)
            if "state" in fields:
                status.over = status.over and fields["state"] in _OVER
                self._news.set()
            status.reported.update(fields)

    def stop(self) -> None:
        """Publish once more and disconnect."""
        self._stopping = True
        self._news.set()
        if self._thread is not None:
            self._thread.join(_LAST_UPDATE)
        self._client.close()

    def _status(self, stream: str) -> _StreamStatus:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="redis-status", daemon=True)
            self._thread.start()
        return self._streams.setdefault(stream, _StreamStatus())

    def _run(self) -> None:
        pause = _INTERVAL
        while not self._stopping:
            self._news.wait(pause)
            self._news.clear()
            pause = self._publish()
        self._publish()

    def _publish(self) -> float:
        """Returns the seconds to wait before the next time."""
        with self._lock:
            due = {s: status.snapshot() for s, status in self._streams.items() if status.is_due}
        try:
            refused = self._send(due)
            self.groups.look(self._client, due)
        except redis.RedisError as error:
            self._client.connection_pool.disconnect()  # its name may lead to another one by now
            return self.outage.failed(error)
        self.outage.over()
        with self._lock:
            for stream, snapshot in due.items():
                self._streams[stream].sent = snapshot
                if stream in refused:
                    self._streams[stream].refused = snapshot[0]["first_epoch"]
        return _INTERVAL

    def _send(self, due: Mapping[str, _Snapshot]) -> set[str]:
        """Returns those that another engine owns by now."""
        sent: list[str | None] = []
        with self._client.pipeline(transaction=False) as pipe:
            for stream, (fields, over) in due.items():
                ttl, first = _ENDED_TTL if over else _TTL, fields.get("first_epoch")
                pipe.sadd(STREAMS_KEY, stream)  # a broker may come back without its data
                if first is None:
                    pipe.hset(status_key(stream), mapping=fields)  # type: ignore[arg-type]
                    pipe.expire(status_key(stream), ttl)
                    sent += [None, None, None]
                else:
                    set_status(pipe, stream, int(first), fields, ttl)
                    sent += [None, stream]
            answers = pipe.execute()
        pairs = zip(sent, answers, strict=True)
        return {stream for stream, answer in pairs if stream is not None and answer is not None}


def _described(info: StreamInfo) -> dict[str, Value]:
    return {
        "source": mask_password(info.url),
        "width": info.width,
        "height": info.height,
        "fps": round(info.fps, 3) if info.fps else "",
        "reconnects": info.reconnects,
    }
