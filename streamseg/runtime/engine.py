"""The model at work: submit, wait, finish.

    batcher -> [ submit ] -> device -> [ wait ] -> [ finish, a pool ] -> deliver

One thread forms batches and hands them to the device, a second waits for the device, a pool does what is
left for the host. The device has its next batch as soon as it is done with one, whatever the host does.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Generic

from streamseg.runtime.aspect import as_shown, in_source_pixels
from streamseg.runtime.batching import Batcher
from streamseg.runtime.finisher import THREADS, Finisher
from streamseg.runtime.pacing import SubmitPacer
from streamseg.runtime.shutdown import ShutdownBudget
from streamseg.types import Frame, FrameBatch, Instances, Meter, Model, Ticket


class Engine(Generic[Ticket]):
    """Takes batches until there are none any more; keeps the first error of its threads."""

    def __init__(
        self,
        model: Model[Ticket],
        batcher: Batcher,
        budget: ShutdownBudget,
        *,
        max_batch: int,
        deliver: Callable[[Frame, Instances], None],
        give_up: Callable[[FrameBatch], None],
        on_breakdown: Callable[[], None],
        meter: Meter | None = None,
        threads: int = THREADS,
    ) -> None:
        """Prepare; :meth:`start` starts the threads.

        ``deliver`` is called for each frame, those of a stream in order, ``give_up`` with batches that come
        when ``budget`` has no time left for them, ``on_breakdown`` when a thread breaks down: it ends
        the sources. ``threads`` finish frames.
        """
        self._model, self._batcher, self._budget = model, batcher, budget
        self._max_batch, self._give_up, self._on_breakdown = max_batch, give_up, on_breakdown
        self._meter = meter
        self.first_error: BaseException | None = None
        """What a thread broke down with, if one did."""
        self._pacer = SubmitPacer()
        self._submitted: queue.Queue[tuple[FrameBatch, Ticket] | None] = queue.Queue(maxsize=1)
        self._finisher = Finisher(deliver, on_error=self._break_down, capacity=2 * max_batch, threads=threads)
        self._threads = [
            threading.Thread(target=self._guarded, args=(step,), name=name)
            for step, name in ((self._submit_batches, "submit"), (self._wait_for_batches, "wait"))
        ]

    def start(self) -> None:
        """Begin to work."""
        self._finisher.start()
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Block until the batcher is closed and its last frame delivered, or the budget is used up."""
        for thread in (*self._threads, *self._finisher.threads):
            while thread.is_alive() and self._budget.may_compute:
                thread.join(timeout=0.2)  # a bounded wait lets Python handle signals

    @property
    def busy(self) -> bool:
        """Whether a thread is still at work."""
        return any(thread.is_alive() for thread in (*self._threads, *self._finisher.threads))

    def _submit_batches(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                if not self._budget.may_submit:
                    self._give_up(batch)
                    continue
                if self._meter is not None:
                    self._meter.batch(len(batch.frames))
                began = time.monotonic()
                ticket = self._model.submit([as_shown(frame) for frame in batch.frames])
                self._pacer.submitted(len(batch.frames), time.monotonic() - began)
                self._submitted.put((batch, ticket))
                del batch, ticket  # held while we wait, they could be the very slots the next one needs
        finally:
            self._submitted.put(None)

    def _next_batch(self) -> FrameBatch | None:
        if self._batcher.serves_live:  # results of recordings may be as old as they like
            self._pacer.wait()
            # Where the host is the slower one, frames wait in the batcher, which keeps the newest.
            self._finisher.wait_until_at_most(self._max_batch)
        return self._batcher.next()

    def _wait_for_batches(self) -> None:
        try:
            while (work := self._submitted.get()) is not None:
                batch, ticket = work
                self._model.wait(ticket)
                self._pacer.done()
                for k, frame in enumerate(batch.frames):
                    find = partial(self._model.finish, ticket, k)
                    self._finisher.put(frame, partial(in_source_pixels, frame, find))
                del work, batch, ticket, frame, find  # the frames' ring slots go back
        finally:
            self._finisher.close()

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:  # noqa: BLE001  the pipeline raises it again
            self._break_down(error)
            self._drain()

    def _break_down(self, error: BaseException) -> None:
        """Keep the first error and bring the other threads to their end."""
        self.first_error = self.first_error or error
        self._on_breakdown()
        self._batcher.close()
        self._pacer.open()

    def _drain(self) -> None:
        """After a breakdown: let go of batches, so that the thread that submits is not left waiting."""
        while threading.current_thread() is self._threads[1] and self._submitted.get() is not None:
            pass
