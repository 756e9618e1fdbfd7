"""What a run did, stream by stream: the numbers, and the rule for a stream's being over."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from streamseg.errors import SourceError, StreamsegError
from streamseg.types import (
    GIVEN_UP,
    LATE,
    SUPERSEDED,
    FramePolicy,
    FramesDamaged,
    FramesDropped,
    Instances,
    StreamChanged,
    StreamEnd,
    StreamInfo,
    StreamState,
)


class StreamStats:
    """The numbers of one stream. All methods in any thread.

    A stream is over when its source has ended or failed and each of its frames has its result or was
    dropped. The methods that can make it so return True for the call that does, once.
    """

    def __init__(self) -> None:
        self.info: StreamInfo | None = None
        """Its last opening; None if it never opened."""
        self.state = StreamState.CONNECTING
        self.reconnects = 0
        self.received = 0
        """Frames that came."""
        self.results = 0
        """Frames that have their result."""
        self.dropped: Counter[str] = Counter()
        """Frames without a result, by reason."""
        self.labels: Counter[str] = Counter()
        """Instances by class name, over all frames."""
        self.lost = 0
        """Frames of a damaged recording that could not be decoded."""
        self.concealed = 0
        """Frames that the decoder patched up, or of a live stream before which packets were lost."""
        self.packets = 0
        """Packets of a live stream that were lost."""
        self.kept = 0
        """Results that an interrupted run had left."""
        self.error: StreamsegError | None = None
        """Why it failed; None while it goes on and if it ended well."""
        self.ended = False
        """Whether no more frames will come."""
        self.stopped = False
        """Whether it was told to end before it would have ended by itself."""
        self.over = False
        """Whether it has ended, all its frames are accounted for, and its writers were told to close."""
        self._told = False
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """Frames on their way through the run."""
        gone = sum(self.dropped[reason] for reason in (SUPERSEDED, LATE, GIVEN_UP))
        return self.received - self.results - gone

    @property
    def damaged(self) -> int:
        """Frames that could not be decoded or were patched up."""
        return self.lost + self.concealed

    @property
    def end(self) -> StreamEnd:
        """How it came to its end, as its writers are to be told."""
        if self.error is not None:
            return StreamEnd.FAILED
        recorded = self.info is not None and self.info.policy is FramePolicy.EVERY_FRAME
        return StreamEnd.STOPPED if self.stopped and recorded else StreamEnd.ENDED

    def begin_again(self) -> None:
        """Read a source under this id once more. Raises ValueError if the stream is not over."""
        with self._lock:
            if not self.over:
                raise ValueError("the stream is still being read")
            self.ended = self.over = self.stopped = self._told = False
            self.error = None
            self.state = StreamState.CONNECTING

    def opened(self, info: StreamInfo) -> None:
        """The stream opened, or opened again."""
        with self._lock:
            self.info = info

    def frame_came(self) -> None:
        """A frame came."""
        with self._lock:
            self.received += 1

    def frame_delivered(self, instances: Instances) -> bool:
        """A frame has its result; returns whether the stream is over with it."""
        with self._lock:
            self.results += 1
            self.labels.update(instances.labels)
            return self._is_over_now()

    def frames_dropped(self, event: FramesDropped) -> bool:
        """Frames will have no result; returns whether the stream is over with them."""
        with self._lock:
            self.dropped[event.reason] += event.count
            self.stopped = self.stopped or event.reason == GIVEN_UP
            return self._is_over_now()

    def frames_damaged(self, event: FramesDamaged) -> None:
        """More damage was found."""
        with self._lock:
            self.lost += event.lost
            self.concealed += event.concealed
            self.packets += event.packets

    def changed(self, event: StreamChanged) -> bool:
        """The stream is in another state; returns whether it is over with that."""
        with self._lock:
            self.state, self.reconnects = event.state, event.reconnects
            if event.over:
                self.ended = True
                self.error = event.error if event.state is StreamState.FAILED else None
            return self._is_over_now()

    def stop(self) -> None:
        """The stream is told to end, unless it has ended by itself."""
        with self._lock:
            self.stopped = self.stopped or not self.ended

    def _is_over_now(self) -> bool:
        # Below 0 if a frame got its result in the moment it was given up: there was time for it after all.
        if self._told or not self.ended or self.waiting > 0:
            return False
        self._told = True
        return True


class RunStats:
    """What a run did. All methods in any thread."""

    def __init__(self, streams: Iterable[str], *, stays: bool = False) -> None:
        """``streams``: ids of those known from the beginning; ``stays``: not over before :meth:`release`."""
        self.streams: dict[str, StreamStats] = {stream: StreamStats() for stream in streams}
        """By id; an id that is used again goes on with its numbers."""
        self.seconds = 0.0
        self.refused: list[SourceError] = []
        """Files that cannot be read by their name, and so have no stream."""
        self.output_errors: list[StreamsegError] = []
        self.notes: list[str] = []
        """What else the user should hear of at the end."""
        self.finished_before = 0
        """Files that an interrupted run had finished."""
        self._lock = threading.Lock()
        self._stays = stays
        self._going_on = len(self.streams) + stays
        self._over = not self._going_on

    @property
    def over(self) -> bool:
        """Whether every stream is over: nothing can be added any more."""
        return self._over

    @property
    def frames(self) -> int:
        """Frames with a result."""
        return sum(stream.results for stream in list(self.streams.values()))

    @property
    def labels(self) -> Counter[str]:
        """Instances by class name, over all frames."""
        return sum((stream.labels for stream in list(self.streams.values())), Counter())

    @property
    def errors(self) -> list[StreamsegError]:
        """Everything that went wrong, sources first."""
        streams = list(self.streams.items())
        failed = [s.error for _, s in streams if s.error is not None]
        damaged = [_damage(name, s) for name, s in streams if s.lost]
        return [*self.refused, *failed, *damaged, *self.output_errors]

    @property
    def reading(self) -> bool:
        """Whether the source of any stream goes on."""
        return not all(stream.ended for stream in list(self.streams.values()))

    def admit(self, name: str) -> StreamStats | None:
        """One more stream, perhaps one that was over; None when the run is over.

        Raises ValueError if the stream is not over.
        """
        with self._lock:
            if self._over:
                return None
            if (stream := self.streams.get(name)) is not None:
                stream.begin_again()
            self._going_on += 1
            return self.streams.setdefault(name, StreamStats())

    def release(self) -> bool:
        """The run is over with its last stream from now on; returns whether it is over with this."""
        with self._lock:
            self._going_on -= self._stays
            was, self._stays = self._over, False
            self._over = self._going_on == 0
            return self._over and not was

    def stream_over(self, stream: StreamStats) -> bool:
        """The writers of a stream were told to close; returns whether the run is over with it."""
        with self._lock:
            stream.over = True
            self._going_on -= 1
            self._over = self._going_on == 0
            return self._over


def _damage(name: str, stream: StreamStats) -> SourceError:
    patched = f", {stream.concealed} more were patched up by the decoder" if stream.concealed else ""
    return SourceError(f"{name} is damaged: {stream.lost} frames could not be decoded{patched}")
