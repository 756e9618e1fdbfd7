"""The one thread that listens to all decode workers, and what other threads want of it."""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from streamseg.errors import SourceError
from streamseg.sources.connection import Numbering, StreamConnection
from streamseg.sources.handle import DecoderHandle, PoolSettings, ReturnedSlot
from streamseg.sources.ring import ReturnedSlots
from streamseg.sources.source import Source
from streamseg.types import StreamChanged, StreamState

logger = logging.getLogger(__name__)


class HasDeadline(Protocol):
    """Something with a deadline that may change."""

    def due_at(self) -> float:
        """The deadline, in seconds of the monotonic clock; infinite if there is none."""


Timed = TypeVar("Timed", bound=HasDeadline)


class Deadlines(Generic[Timed]):
    """When to look at which decoder.

    A deadline that moves to a later time, as at every frame, costs nothing: the decoder is looked at when the
    earlier decoder is reached, and planned anew.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timed]] = []
        self._planned: dict[Timed, float] = {}
        self._order = itertools.count()

    def plan(self, decoder: Timed) -> None:
        """Take note of a decoder's deadline, which may have changed."""
        due = decoder.due_at()
        if due < self._planned.get(decoder, math.inf):
            self._planned[decoder] = due
            heapq.heappush(self._heap, (due, next(self._order), decoder))

    def next(self) -> float:
        """When to look again, at the latest."""
        return self._heap[0][0] if self._heap else math.inf

    def reached(self, now: float) -> Iterator[Timed]:
        """The decoders to look at now, each to be planned again."""
        while self._heap and self._heap[0][0] <= now:
            due, _, decoder = heapq.heappop(self._heap)
            if self._planned.get(decoder) == due:  # else it was planned for an earlier time meanwhile
                del self._planned[decoder]
                yield decoder


class ReceiverOrders:
    """What other threads want of the receiver thread."""

    def __init__(self, *, stays: bool = False) -> None:
        """``stays``: more is to come, also when nothing is left to read."""
        self.stopping, self._stays = False, stays
        self._queue: deque[Callable[[Receiver], None]] = deque()
        self._closed = False
        self._lock = threading.Lock()
        self._wake: Callable[[], None] = lambda: None

    def wake_by(self, wake: Callable[[], None]) -> None:
        """Call this whenever there is something new."""
        self._wake = wake

    def put(self, order: Callable[[Receiver], None]) -> bool:
        """Give an order; False when the receiver takes no more."""
        with self._lock:
            if self._closed:
                return False
            self._queue.append(order)
        self._wake()
        return True

    def take(self) -> Iterator[Callable[[Receiver], None]]:
        """The orders that were given since the last time."""
        while self._queue:
            yield self._queue.popleft()

    def release(self) -> None:
        """No more sources are to come but those that others add while some are read."""
        self._stays = False
        self._wake()

    def stop(self) -> None:
        """Order the receiver to end everything."""
        self.stopping = True
        self._wake()

    def close(self, *, if_empty: bool = False) -> bool:
        """Take no more orders, but only without one waiting if ``if_empty``; returns whether that is so."""
        with self._lock:
            self._closed = self._closed or not (if_empty and (self._queue or self._stays))
            return self._closed


class Receiver:
    """The thread that listens to all workers; nothing here is for other threads.

    Each turn looks at the handles alone that something happened to or that are due: it costs the same with a
    thousand streams as with one.
    """

    def __init__(self, settings: PoolSettings, max_recorded: int, orders: ReceiverOrders) -> None:
        """Take a selector and an event descriptor. Raises OSError when there is none left."""
        self._settings, self._max_recorded, self._orders = settings, max_recorded, orders
        self._returned: ReturnedSlots[ReturnedSlot] = ReturnedSlots()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._returned, selectors.EVENT_READ)
        orders.wake_by(self._returned.wake)
        self._deadlines: Deadlines[DecoderHandle] = Deadlines()
        self._waiting: deque[Source] = deque()
        """Recordings that no worker is free for."""
        self._active: dict[str, DecoderHandle] = {}
        """By stream: those being read, and cameras that are waited for."""
        self._idle: list[DecoderHandle] = []
        """For recordings, without one now."""
        self._recorded = 0
        """Handles for recordings, idle or not."""
        self._freed = False
        """Whether a recording that waits may be begun, which it could not before."""
        self._ending = False
        """Whether streams are only told that they end."""
        self._numbering: dict[str, Numbering] = {}
        """Of streams that have ended: it goes on if they come back."""

    def admit(self, source: Source, *, epoch: int) -> None:
        """Read a source: a camera at once, a recording when a worker is free.

        What only the web server's answer can tell is begun as its name suggests. ``epoch``: of its first
        opening, unless more were counted here.
        """
        known = self._numbering.get(source.id, Numbering())
        self._numbering[source.id] = replace(known, epoch=max(known.epoch, epoch - 1))
        if not source.recorded and not self._ending:
            self._begin(self._new_handle(), source)
        else:
            self._waiting.append(source)
            self._freed = True

    def remove(self, stream: str) -> None:
        """End a source and its worker."""
        for source in [source for source in self._waiting if source.id == stream]:
            self._waiting.remove(source)
            self._settings.emit(StreamChanged(stream, StreamState.ENDED))
        if (handle := self._active.get(stream)) is not None:
            handle.kill_worker()
            handle.end()
            self._settle(handle)

    def replace(self, source: Source) -> None:
        """Open a camera again with other settings."""
        if (handle := self._active.get(source.id)) is not None:
            handle.replace(source)
            self._settle(handle)

    def run(self) -> None:
        """Read until nothing is left to read, or until told to stop."""
        # Workers inherit this mask: a Ctrl-C in the moment before they ignore it would kill them.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        error: SourceError | None = None
        try:
            while self._goes_on():
                self._turn(self._deadlines.next())
        except Exception as failure:  # a bug here or in emit must not leave the pipeline waiting for ever
            logger.exception("reading the sources failed")
            error = SourceError(f"reading failed: {type(failure).__name__}: {failure}")
        finally:
            self._wind_down(error)

    def _goes_on(self) -> bool:
        """Do what was ordered, hand out what waits; returns whether anything is left to do."""
        if self._orders.stopping:
            return False
        for order in self._orders.take():
            order(self)
        self._hand_out()
        return bool(self._active or self._waiting) or not self._orders.close(if_empty=True)

    def _turn(self, until: float) -> None:
        """Wait for something to happen, at most until then, and attend to it."""
        timeout = None if until == math.inf else max(0.0, until - time.monotonic())
        touched: dict[DecoderHandle, None] = {}
        for key, events in self._selector.select(timeout):
            if key.data is not None:
                touched[key.data] = None
                if events & selectors.EVENT_READ:
                    key.data.receive()
        for handle, job, ring, slot in self._returned.take():
            touched[handle] = None
            handle.returned(job, ring, slot)
        now = time.monotonic()
        for handle in self._deadlines.reached(now):
            touched[handle] = None
            handle.attend(now)
        for handle in touched:
            self._settle(handle)

    def _settle(self, handle: DecoderHandle) -> None:
        """See what became of a handle that something happened to."""
        handle.flush()
        self._deadlines.plan(handle)
        if handle.for_recordings and handle.connection is not None and handle.connection.source.live:
            handle.for_recordings = False  # it turned out to be a camera, which goes on for ever
            self._recorded -= 1
            self._freed = True
        if (ended := handle.take_ended()) is not None:
            stream = ended.source.id
            self._numbering[stream] = ended.numbering
            del self._active[stream]
            if handle.for_recordings:
                self._idle.append(handle)
            else:
                handle.kill_worker()  # it is not used again
        self._freed = self._freed or handle.connection is None

    def _begin(self, handle: DecoderHandle, source: Source) -> None:
        settings = self._settings
        connection = StreamConnection(
            source,
            emit=settings.emit,
            backoff=settings.backoff,
            timing=settings.timing,
            after=self._numbering.get(source.id),
        )
        self._active[source.id] = handle
        handle.begin(connection)
        self._settle(handle)

    def _hand_out(self) -> None:
        """Begin the recordings that wait, as far as workers are free; without any, let workers exit."""
        if not self._freed:
            return
        self._freed = False
        while self._waiting and (handle := self._free_handle()) is not None:
            self._begin(handle, self._waiting.popleft())
        if not self._waiting:
            for handle in self._idle:
                handle.stop_worker()

    def _free_handle(self) -> DecoderHandle | None:
        """A handle for the next recording, if one may be begun now."""
        free = next((handle for handle in self._idle if handle.roomy), None)
        if free is not None:
            self._idle.remove(free)
        elif self._recorded < self._max_recorded:
            self._recorded += 1
            free = self._new_handle()
            free.for_recordings = True
        return free

    def _new_handle(self) -> DecoderHandle:
        return DecoderHandle(self._settings, self._selector, self._returned)

    def _wind_down(self, error: SourceError | None) -> None:
        """End in order: the streams first, then the workers, by force those that do not exit."""
        handles = [*self._active.values(), *self._idle]
        try:
            self._ending = self._orders.close()
            for order in self._orders.take():
                order(self)
            for handle in handles:
                handle.end(error)
                handle.take_ended()
                handle.stop_worker()
            for source in self._waiting:
                state = StreamState.FAILED if error else StreamState.ENDED
                self._settings.emit(StreamChanged(source.id, state, error))
            deadline = time.monotonic() + self._settings.timing.grace
            while any(handle.running for handle in handles) and time.monotonic() < deadline:
                self._turn(deadline)
        finally:
            for handle in handles:
                handle.kill_worker()
            self._selector.close()
            self._returned.close()
            self._orders.wake_by(lambda: None)
