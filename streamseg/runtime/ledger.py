"""The summary of a run while it goes on: every stage's thread counts here, under one lock."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from streamseg.errors import StreamsegError
from streamseg.runtime.stats import StreamSummary, Summary
from streamseg.types import FramesDamaged, FramesDropped, Instances, StreamChanged, StreamInfo, StreamState


class Ledger:
    """Knows of each stream how many frames came, went and are on their way. All methods in any thread."""

    def __init__(self, streams: Iterable[str]) -> None:
        """``streams``: ids of those known from the beginning."""
        self.summary = Summary({stream: StreamSummary() for stream in streams})
        self._lock = threading.Lock()
        self._over = not self.summary.streams

    def __getitem__(self, stream: str) -> StreamSummary:
        return self.summary.streams[stream]

    @property
    def over(self) -> bool:
        """Whether every stream is closed."""
        return self._over

    def admit(self, stream: str) -> bool:
        """One more stream, perhaps one that was closed; False when the run is over.

        Raises ValueError if the stream is not closed.
        """
        with self._lock:
            if self._over:
                return False
            entry = self.summary.streams.setdefault(stream, StreamSummary(closed=True))
            if not entry.closed:
                raise ValueError(f"stream {stream} is still being read")
            entry.ended = entry.closed = entry.cut_short = False
            entry.error = None
            return True

    def opened(self, info: StreamInfo) -> None:
        """A stream opened, or opened again."""
        with self._lock:
            self[info.stream].info = info

    def received(self, stream: str) -> None:
        """A frame came."""
        with self._lock:
            self[stream].received += 1

    def delivered(self, stream: str, instances: Instances) -> None:
        """A frame has its result."""
        with self._lock:
            self[stream].results += 1
            self.summary.labels.update(instances.labels)

    def dropped(self, event: FramesDropped) -> None:
        """Frames will have no result."""
        with self._lock:
            self[event.stream].dropped[event.reason] += event.count

    def drops(self, stream: str) -> int:
        """How many frames of a stream were dropped, for any reason."""
        with self._lock:
            return self[stream].dropped.total()

    def damaged(self, event: FramesDamaged) -> None:
        """A recording was harmed in places."""
        with self._lock:
            self[event.stream].lost, self[event.stream].concealed = event.lost, event.concealed

    def changed(self, event: StreamChanged) -> StreamSummary:
        """A stream is in another state."""
        with self._lock:
            entry = self[event.stream]
            entry.state, entry.reconnects = event.state, event.reconnects
            if event.over:
                entry.ended = True
                entry.error = event.error if event.state is StreamState.FAILED else None
            return entry

    def cut_short(self, streams: Iterable[str] | None = None) -> None:
        """These streams, or all, are told to end: those that have not ended by themselves."""
        with self._lock:
            for name in self.summary.streams if streams is None else streams:
                if (entry := self.summary.streams.get(name)) is not None and not entry.ended:
                    entry.cut_short = True

    def given_up(self, streams: Iterable[str]) -> None:
        """There is no time for frames of these streams."""
        with self._lock:
            for name in streams:
                self[name].cut_short = True

    def close_if_done(self, stream: str) -> StreamSummary | None:
        """The stream, once: when its source has ended and its last frame has its result."""
        with self._lock:
            entry = self[stream]
            if entry.closed or not entry.ended or entry.waiting:
                return None
            entry.closed = True
            self._over = all(s.closed for s in self.summary.streams.values())
            return entry

    def output_failed(self, error: StreamsegError) -> list[str]:
        """An output cannot write, as a whole or one stream; returns the streams that go on."""
        with self._lock:
            self.summary.output_errors.append(error)
            return [name for name, s in self.summary.streams.items() if not s.closed]

    @property
    def reading(self) -> bool:
        """Whether the source of any stream goes on."""
        with self._lock:
            return not all(s.ended for s in self.summary.streams.values())

    def waiting(self) -> Counter[str]:
        """Frames on their way through the pipeline, by stream."""
        with self._lock:
            return Counter({name: s.waiting for name, s in self.summary.streams.items() if s.waiting})
