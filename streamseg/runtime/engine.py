"""The model at work: one thread hands batches to the device, another takes what was found from it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from streamseg.runtime.batching import Batcher
from streamseg.runtime.pacing import Pace
from streamseg.runtime.shutdown import StopClock
from streamseg.types import Frame, FrameBatch, Instances, Meter, Model


class Engine:
    """Takes batches until there are none any more; keeps the first error of its threads."""

    def __init__(
        self,
        model: Model,
        batcher: Batcher,
        clock: StopClock,
        *,
        deliver: Callable[[Frame, Instances], None],
        give_up: Callable[[FrameBatch], None],
        on_breakdown: Callable[[], None],
        meter: Meter | None = None,
    ) -> None:
        """Prepare; :meth:`start` starts the threads.

        ``deliver`` is called for each frame, in order, ``give_up`` with batches that come when ``clock``
        has no time left for them, ``on_breakdown`` when a thread breaks down: no more frames shall come.
        """
        self._model, self._batcher, self._clock = model, batcher, clock
        self._deliver, self._give_up, self._on_breakdown = deliver, give_up, on_breakdown
        self._meter = meter
        self.first_error: BaseException | None = None
        """What a thread broke down with, if one did."""
        self._pace = Pace()
        self._submitted: queue.Queue[tuple[FrameBatch, Any] | None] = queue.Queue(maxsize=1)
        self._threads = [
            threading.Thread(target=self._guarded, args=(stage,), name=stage.__name__)
            for stage in (self._run_model, self._run_collector)
        ]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Block until the batcher is closed and its last batch delivered, or the clock has run out."""
        for thread in self._threads:
            while thread.is_alive() and self._clock.may_compute:
                thread.join(timeout=0.2)  # a bounded wait lets Python handle signals

    @property
    def busy(self) -> bool:
        """Whether a thread is still at work."""
        return any(thread.is_alive() for thread in self._threads)

    def _run_model(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                if not self._clock.may_submit:
                    self._give_up(batch)
                    continue
                if self._meter is not None:
                    self._meter.batch(len(batch.frames))
                began = time.monotonic()
                submitted = self._model.submit([frame.pixels for frame in batch.frames])
                self._pace.submitted(len(batch.frames), time.monotonic() - began)
                self._submitted.put((batch, submitted))
                del batch, submitted  # held while we wait, they could be the very slots the next one needs
        finally:
            self._submitted.put(None)

    def _next_batch(self) -> FrameBatch | None:
        if self._batcher.serves_live:  # results of recordings may be as old as they like
            self._pace.wait()
        return self._batcher.next()

    def _run_collector(self) -> None:
        while (work := self._submitted.get()) is not None:
            batch, submitted = work
            found = self._model.collect(submitted)
            self._pace.finished()
            for frame, instances in zip(batch.frames, found, strict=True):
                self._deliver(frame, instances)
            del work, batch, submitted, found, frame, instances  # the frames' ring slots go back

    def _guarded(self, stage: Callable[[], None]) -> None:
        """Run a stage; if it breaks down, keep the first error and bring the others to an end."""
        try:
            stage()
        except BaseException as error:  # noqa: BLE001  raised again by the pipeline
            self.first_error = self.first_error or error
            self._on_breakdown()
            self._batcher.close()
            self._pace.open()
            self._drain()

    def _drain(self) -> None:
        """After a breakdown: let go of batches, so that the model's thread is not left waiting."""
        while threading.current_thread() is self._threads[1] and self._submitted.get() is not None:
            pass
