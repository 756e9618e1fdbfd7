"""The status hash of every stream, kept fresh in Redis by a thread of its own.

The hash has to change when nothing happens (a camera goes silent, the process is killed), so it
cannot be written along with the results.
"""

import logging
import threading
from dataclasses import dataclass, field

import redis

from streamseg.errors import mask_password
from streamseg.redis.connection import Broker, reason
from streamseg.types import FramePolicy, FrameResult, StreamInfo

logger = logging.getLogger(__name__)

_EVERY = 1.0  # seconds between two updates
_TTL = 15  # seconds: soon after the process died its streams have no status
_ENDED_TTL = 3600  # seconds: time to look up how a stream ended
_LAST_WORD = 3.0  # seconds that the last update may take: a broker that hangs must not hold up the end

Value = str | int | float


@dataclass(slots=True)
class _Entry:
    fields: dict[str, Value] = field(default_factory=dict)
    info: StreamInfo | None = None
    frames: int = 0
    last_index: int = -1
    dropped: int = 0
    over: bool = False
    published: bool = False

    def snapshot(self) -> dict[str, Value]:
        """All fields as they are now."""
        fields: dict[str, Value] = {"state": "connecting", "error": ""}
        if (info := self.info) is not None:
            counts: dict[str, Value] = {"frames": self.frames, "dropped": self.dropped, "state": "live"}
            fields |= _described(info) | counts
        return fields | self.fields


class StatusBoard:
    """Knows the state of every stream and publishes it once a second."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()
        self._news, self._stopping = threading.Event(), False
        self._thread: threading.Thread | None = None

    def opened(self, info: StreamInfo) -> None:
        """A stream opened, or opened again."""
        with self._lock:
            entry = self._entry(info.stream)
            entry.info = info
            if entry.over:  # it was removed from the run and came back
                entry.over = entry.published = False
                entry.fields["state"] = "live"
        self._news.set()

    def published(self, result: FrameResult) -> None:
        """A result was delivered; numbers that are missing before it are dropped frames of a live stream."""
        with self._lock:
            entry = self._entry(result.stream)
            if entry.info is not None and entry.info.policy is FramePolicy.NEWEST_FRAME:
                entry.dropped += max(0, result.frame - entry.last_index - 1)
            entry.frames += 1
            entry.last_index = result.frame
            entry.fields["last_frame_time"] = result.time

    def closed(self, stream: str, *, complete: bool) -> None:
        """A stream came to its end."""
        with self._lock:
            entry = self._entry(stream)
            entry.fields["state"] = "ended" if complete else "failed"
            entry.over = True
        self._news.set()

    def report(self, stream: str, **fields: Value) -> None:
        """Set fields that are not known here; they stay until set again. A new state is published at once."""
        with self._lock:
            entry = self._entry(stream)
            if "state" in fields:
                entry.over = entry.published = False
                self._news.set()
            entry.fields.update(fields)

    def stop(self) -> None:
        """Publish once more and disconnect."""
        self._stopping = True
        self._news.set()
        if self._thread is not None:
            self._thread.join(_LAST_WORD)
        self._broker.close()

    def _entry(self, stream: str) -> _Entry:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="redis-status", daemon=True)
            self._thread.start()
        return self._entries.setdefault(stream, _Entry())

    def _run(self) -> None:
        while not self._stopping:
            self._news.wait(_EVERY)
            self._news.clear()
            self._publish()
        self._publish()

    def _publish(self) -> None:
        with self._lock:
            due = {
                s: (e.snapshot(), e.over) for s, e in self._entries.items() if not (e.over and e.published)
            }
        try:
            with self._broker.client.pipeline(transaction=False) as pipe:
                for stream, (fields, over) in due.items():
                    key = f"streamseg:{{{stream}}}:status"
                    pipe.hset(key, mapping=fields)  # type: ignore[arg-type]
                    pipe.expire(key, _ENDED_TTL if over else _TTL)
                    pipe.sadd("streamseg:streams", stream)  # a broker may come back without its data
                pipe.execute()
        except redis.RedisError as error:
            logger.debug("no status for %s: %s", self._broker.name, reason(error))
            return
        with self._lock:
            for stream, (_, over) in due.items():
                self._entries[stream].published = over


def _described(info: StreamInfo) -> dict[str, Value]:
    return {
        "source": mask_password(info.url),
        "width": info.width,
        "height": info.height,
        "fps": round(info.fps, 3) if info.fps else "",
        "reconnects": info.epoch,
    }
