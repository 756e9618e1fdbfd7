"""One place to read at, in the parent: a worker process, the source it reads and the slots it lent out.

A lane is only touched by the receiver thread of the reader; only the return of a slot comes from
elsewhere, through :class:`Returns`.
"""

from __future__ import annotations

import math
import os
import selectors
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial

from streamseg.errors import SourceError
from streamseg.sources.messages import Alive, Decoded, Ended, FromWorker, Harm, Open, Opened, Release, Skipped
from streamseg.sources.process import WorkerProcess
from streamseg.sources.reading import Reading
from streamseg.sources.returns import Returns
from streamseg.sources.ring import RingReader
from streamseg.sources.source import Source
from streamseg.sources.timing import Retry, Timing
from streamseg.types import EmitEvent, Frame, FramesDamaged

MESSAGES_PER_TURN = 32
"""Taken from one worker before the others have theirs."""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """What all lanes of a reader have in common."""

    emit: EmitEvent
    returns: Returns[tuple[Lane, int, int]]
    selector: selectors.BaseSelector
    slots: int
    max_ring_bytes: int
    timing: Timing
    retry: Retry


class Lane:
    """Reads one source at a time in a worker process that it starts, watches and replaces."""

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = settings
        self._process: WorkerProcess | None = None
        self._reading: Reading | None = None
        self._ring: RingReader | None = None
        self._slots = 0
        self._job = 0
        self._lent: Counter[int] = Counter()
        self._spoke = False
        """Whether the worker has said something about the present job."""
        self._last_sign = 0.0
        """When the worker gave its last sign of life; of a live source that is open, its last frame."""

    @property
    def reading(self) -> Reading | None:
        """What is being read or waited for."""
        return self._reading

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

    def begin(self, reading: Reading) -> None:
        """Read a source; only when not busy."""
        self._reading = reading
        reading.begin()
        self._open(reading)

    def _open(self, reading: Reading) -> None:
        reading.retry_at = math.inf
        self._ring = None
        self._spoke = False
        self._last_sign = time.monotonic()
        self._job += 1
        settings = self._settings
        if self._process is not None and self._process.stopping:
            self._kill_worker()
        try:
            process = self._process or self._start()
        except OSError as error:
            self._lost(reading, f"cannot start a decode worker: {error.strerror}")
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
            self._handle(*received)

    def _handle(self, message: FromWorker, fd: int | None) -> None:
        reading = self._reading
        if reading is None or message.job != self._job:
            if fd is not None:
                os.close(fd)
            return
        self._spoke = True
        self._last_sign = time.monotonic()
        match message:
            case Opened() if fd is not None:
                self._opened(reading, message, fd)
            case Decoded():
                self._decoded(reading, message)
            case Skipped(next_index=next_index):
                reading.count_to(next_index)
            case Harm(lost=lost, concealed=concealed):
                self._settings.emit(FramesDamaged(reading.source.id, lost, concealed))
            case Ended():
                self._lost(reading, message.error, message)
            case Alive() | Opened():
                pass

    def _opened(self, reading: Reading, opened: Opened, fd: int) -> None:
        try:
            self._ring = RingReader(fd, opened.height, opened.width)
        except (OSError, ValueError) as error:
            self._kill_worker()
            self._lost(reading, f"cannot map the frame ring: {error}")
            return
        self._slots = opened.slots
        reading.opened(opened)

    def _decoded(self, reading: Reading, decoded: Decoded) -> None:
        assert self._ring is not None, "a frame without a ring"
        assert reading.info is not None, "a frame before its stream"
        self._lent[self._job] += 1
        reading.count_to(decoded.index)
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
            if self._reading is not None and not self._reading.source.live:
                self._last_sign = time.monotonic()  # it may have waited for this slot
            self._process.send(Release(job, slot))

    def wake_at(self) -> float:
        """When :meth:`tick` has something to do, on the monotonic clock."""
        if self._reading is None:
            return math.inf
        return min(self._reading.retry_at, self._patience_ends(self._reading))

    def tick(self) -> None:
        """Do what is due: try again, replace a worker that went silent."""
        reading, now = self._reading, time.monotonic()
        if reading is None:
            return
        if now >= self._patience_ends(reading):
            self._replace_silent(reading)
        elif now >= reading.retry_at and self.roomy:
            self._open(reading)
        elif now >= reading.retry_at:
            reading.retry_at = now + self._settings.retry.first

    def _patience_ends(self, reading: Reading) -> float:
        """When the worker will have been silent for too long.

        It may be stuck in FFmpeg, or stopped: the worker itself is not asked.
        """
        source, timing = reading.source, self._settings.timing
        if reading.retry_at < math.inf:
            return math.inf
        if not source.live:
            waits_for_a_slot = self._ring is not None and self._lent[self._job] >= self._slots
            return math.inf if waits_for_a_slot else self._last_sign + timing.recorded_silence
        if self._ring is not None:
            return self._last_sign + source.read_timeout
        # FFmpeg's time-outs fire after up to twice their value.
        connecting = 2 * source.open_timeout + timing.first_frame
        return self._last_sign + (connecting if self._spoke else timing.start + connecting)

    def _replace_silent(self, reading: Reading) -> None:
        self._kill_worker()
        if reading.source.live and self._ring is not None:
            self._ring = None
            reading.stalled()
            self._let_go()
        else:
            self._lost(reading, "the decode worker gave no sign of life and was replaced")

    def _lost(self, reading: Reading, error: str | None, ended: Ended | None = None) -> None:
        """A job is done: the end of a recording, a loss on a live source."""
        self._ring = None
        reading.lost(error, ended.refused if ended else None)
        self._let_go()

    def _let_go(self) -> None:
        """Of a reading that has come to its end; a camera's lane is not used again."""
        if self._reading is not None and self._reading.over:
            if self._reading.source.live:
                self._kill_worker()
            self._reading = None

    def _worker_gone(self) -> None:
        how = self._drop_worker()
        if self._reading is not None and self._reading.retry_at == math.inf:
            self._lost(self._reading, f"the decode worker {how}")

    def _drop_worker(self) -> str:
        """End the worker; the pictures it lent out stay valid."""
        if self._process is None:
            return "is gone"
        process, self._process = self._process, None
        self._settings.selector.unregister(process.channel)
        return process.end()

    def replace(self, source: Source) -> None:
        """Go on reading the same stream with other settings."""
        if self._reading is not None:
            self._kill_worker()
            self._reading.replace(source)
            self._open(self._reading)

    def cancel(self) -> None:
        """End the source being read, if any, at once and in order; the lane may be used again."""
        self._kill_worker()
        self._end(None)

    def stop(self, error: SourceError | None = None) -> None:
        """End the source being read, if any, and ask the worker to go."""
        self._end(error)
        if self._process is not None:
            self._process.stop()

    def _end(self, error: SourceError | None) -> None:
        if self._reading is not None:
            reading, self._reading = self._reading, None
            self._ring = None
            reading.end(error)

    def close(self) -> None:
        """Kill what is left."""
        self._kill_worker()

    def _kill_worker(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._drop_worker()
