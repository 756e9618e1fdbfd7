"""One place to read at, in the parent: a worker process, the source it reads and the slots it lent out.

A lane is only touched by the receiver thread of the reader; only the return of a slot comes from
elsewhere, through :class:`Returns`.
"""

from __future__ import annotations

import logging
import math
import os
import random
import selectors
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from streamseg.errors import SourceError
from streamseg.sources.messages import Alive, Decoded, Ended, FromWorker, Harm, Open, Opened, Release, Skipped
from streamseg.sources.process import WorkerProcess
from streamseg.sources.returns import Returns
from streamseg.sources.ring import RingReader
from streamseg.sources.source import Source
from streamseg.sources.timing import Retry, Timing
from streamseg.types import EmitEvent, Frame, FramesDamaged, FramesDropped, StreamEnded, StreamInfo

MESSAGES_PER_TURN = 32
"""Taken from one worker before the others have theirs."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """What all lanes of a reader have in common."""

    emit: EmitEvent
    returns: Returns[tuple[Lane, int, int]]
    selector: selectors.BaseSelector
    slots: int
    max_ring_bytes: int
    connect_timeout: float
    timing: Timing
    retry: Retry


@dataclass(slots=True)
class _Reading:
    """A source from its first opening until its StreamEnded."""

    source: Source
    deadline: float = math.inf
    """When a live source that never delivered is given up: set once an attempt is under way."""
    epoch: int = -1
    next_index: int = 0
    failures: int = 0
    error: str = "no answer"
    retry_at: float = math.inf
    info: StreamInfo | None = field(default=None, repr=False)


class Lane:
    """Reads one source at a time in a worker process that it starts, watches and replaces."""

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = settings
        self._process: WorkerProcess | None = None
        self._reading: _Reading | None = None
        self._ring: RingReader | None = None
        self._slots = 0
        self._job = 0
        self._lent: Counter[int] = Counter()
        self._last_sign = 0.0

    @property
    def busy(self) -> bool:
        """Whether a source is being read (or waited for)."""
        return self._reading is not None

    @property
    def running(self) -> bool:
        """Whether there is a worker process."""
        return self._process is not None

    @property
    def roomy(self) -> bool:
        """Whether frames of earlier sources are back, so that memory stays bounded whoever keeps some.

        Not all of them are waited for: a page that shows the last picture of a file would stop the next.
        """
        return self._lent.total() <= self._settings.slots // 2

    def begin(self, source: Source) -> None:
        """Read a source; only when not busy."""
        self._reading = _Reading(source)
        self._open(self._reading)

    def _open(self, reading: _Reading) -> None:
        reading.retry_at = math.inf
        reading.info = self._ring = None
        self._last_sign = time.monotonic()
        self._job += 1
        settings = self._settings
        try:
            process = self._process or self._start()
        except OSError as error:
            self._over(reading, f"cannot start a decode worker: {error.strerror}")
            return
        process.send(
            Open(self._job, reading.source, reading.next_index, settings.slots, settings.max_ring_bytes)
        )

    def _start(self) -> WorkerProcess:
        self._process = process = WorkerProcess()
        self._settings.selector.register(process.channel, selectors.EVENT_READ, self)
        return process

    def receive(self) -> None:
        """Take what the worker has sent."""
        for _ in range(MESSAGES_PER_TURN):
            if self._process is None:
                return
            try:
                received = self._process.channel.receive()
            except BlockingIOError:
                return
            if received is None:
                self._worker_gone()
                return
            self._last_sign = time.monotonic()
            self._handle(*received)

    def _handle(self, message: FromWorker, fd: int | None) -> None:
        reading = self._reading
        if reading is None or message.job != self._job:
            if fd is not None:
                os.close(fd)
            return
        self._count_down(reading)
        match message:
            case Opened() if fd is not None:
                self._opened(reading, message, fd)
            case Decoded():
                self._decoded(reading, message)
            case Skipped(count=count, next_index=next_index):
                reading.next_index = max(reading.next_index, next_index)
                self._settings.emit(FramesDropped(reading.source.id, "busy", count))
            case Harm(lost=lost, concealed=concealed):
                self._settings.emit(FramesDamaged(reading.source.id, lost, concealed))
            case Ended(error=error):
                self._over(reading, error)
            case Alive() | Opened():
                pass

    def _count_down(self, reading: _Reading) -> None:
        """Limit the time for connecting, from the first word of a worker on.

        Starting the interpreters of fifty workers alone can take longer than a camera may.
        """
        if reading.source.live and reading.epoch < 0 and reading.deadline == math.inf:
            reading.deadline = time.monotonic() + self._settings.connect_timeout

    def _opened(self, reading: _Reading, opened: Opened, fd: int) -> None:
        try:
            self._ring = RingReader(fd, opened.height, opened.width)
        except (OSError, ValueError) as error:
            self._drop_worker()
            self._over(reading, f"cannot map the frame ring: {error}")
            return
        self._slots = opened.slots
        reading.epoch += 1
        reading.failures = 0
        reading.deadline = math.inf
        reading.info = opened.describe(reading.source, reading.epoch)
        logger.info("%s: reading %s", reading.source.id, reading.source.shown)
        self._settings.emit(reading.info)

    def _decoded(self, reading: _Reading, decoded: Decoded) -> None:
        assert self._ring is not None, "a frame without a ring"
        assert reading.info is not None, "a frame before its stream"
        self._lent[self._job] += 1
        reading.next_index = decoded.index + 1
        returned = partial(self._settings.returns.put, (self, self._job, decoded.slot))
        frame = Frame(
            stream=reading.source.id,
            epoch=reading.epoch,
            index=decoded.index,
            ticks=decoded.ticks,
            time_base=reading.info.time_base,
            time=decoded.time,
            pixels=self._ring.lend(decoded.slot, returned),
        )
        self._settings.emit(frame)

    def returned(self, job: int, slot: int) -> None:
        """A slot came home: give it back to the worker, if the worker still has that ring."""
        self._lent[job] -= 1
        if not self._lent[job]:
            del self._lent[job]
        if job == self._job and self._process is not None:
            self._last_sign = time.monotonic()
            self._process.send(Release(job, slot))

    def wake_at(self) -> float:
        """When :meth:`tick` has something to do, on the monotonic clock."""
        if self._reading is None:
            return math.inf
        return min(self._reading.retry_at, self._reading.deadline, self._silent_at(self._reading))

    def tick(self) -> None:
        """Do what is due: try again, give up, replace a worker that went silent."""
        reading, now = self._reading, time.monotonic()
        if reading is None:
            return
        if now >= reading.deadline:
            self._kill_worker()
            self._end(self._cannot_connect(reading))
        elif now >= self._silent_at(reading):
            self._kill_worker()
            self._over(reading, "the decode worker gave no sign of life and was replaced")
        elif now >= reading.retry_at and self.roomy:
            self._open(reading)
        elif now >= reading.retry_at:
            reading.retry_at = now + self._settings.retry.first

    def _silent_at(self, reading: _Reading) -> float:
        """When the worker has been silent for too long."""
        if reading.retry_at < math.inf:
            return math.inf
        if reading.source.live:
            # FFmpeg's time-outs fire after up to twice their value.
            patience = (
                2 * reading.source.open_timeout + reading.source.read_timeout + self._settings.timing.silence
            )
            return self._last_sign + patience
        waits_for_a_slot = self._ring is not None and self._lent[self._job] >= self._slots
        return math.inf if waits_for_a_slot else self._last_sign + self._settings.timing.recorded_silence

    def _worker_gone(self) -> None:
        how = self._drop_worker()
        if self._reading is not None and self._reading.retry_at == math.inf:
            self._over(self._reading, f"the decode worker {how}")

    def _drop_worker(self) -> str:
        """End the worker; the pictures it lent out stay valid."""
        if self._process is None:
            return "is gone"
        process, self._process = self._process, None
        self._settings.selector.unregister(process.channel)
        return process.end()

    def _over(self, reading: _Reading, error: str | None) -> None:
        """A job is done: the end of a recording, a loss on a live source."""
        if not reading.source.live:
            self._end(None if error is None else SourceError(f"{reading.source.shown}: {error}"))
            return
        self._count_down(reading)
        timing, retry = self._settings.timing, self._settings.retry
        reading.error = error or "the stream ended"
        reading.failures += 1
        delay = retry.delay(reading.failures, random.random())
        if reading.epoch < 0:
            delay = min(delay, timing.connect_retry)
        reading.retry_at = time.monotonic() + delay
        if reading.retry_at >= reading.deadline:
            self._end(self._cannot_connect(reading))
            return
        source = reading.source
        logger.warning("%s: %s: %s; next attempt in %.1f s", source.id, source.shown, reading.error, delay)

    def _cannot_connect(self, reading: _Reading) -> SourceError:
        return SourceError(f"cannot connect to {reading.source.shown}: {reading.error}")

    def _end(self, error: SourceError | None) -> None:
        assert self._reading is not None, "nothing to end"
        reading, self._reading = self._reading, None
        self._ring = None
        if error is not None:
            logger.info("%s: %s", reading.source.id, error)
        self._settings.emit(StreamEnded(reading.source.id, error))

    def stop(self, error: SourceError | None = None) -> None:
        """End the source being read, if any, and ask the worker to go."""
        if self._reading is not None:
            self._end(error)
        if self._process is not None:
            self._process.stop()

    def close(self) -> None:
        """Kill what is left."""
        self._kill_worker()

    def _kill_worker(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._drop_worker()
