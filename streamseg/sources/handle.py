"""The parent's side of one decode worker: its process, the stream it reads, the pictures it lent."""

from __future__ import annotations

import logging
import math
import os
import selectors
from dataclasses import dataclass

from streamseg.errors import SourceError
from streamseg.sources.connection import StreamConnection
from streamseg.sources.lent_pictures import LentPictures
from streamseg.sources.messages import (
    Alive,
    Counted,
    Damaged,
    Decoded,
    Ended,
    FromWorker,
    Limit,
    Note,
    Open,
    Opened,
    Refused,
    Resized,
    Waiting,
)
from streamseg.sources.ring import ReturnedSlots
from streamseg.sources.source import Source
from streamseg.sources.timing import Backoff, Timing
from streamseg.sources.worker_process import WorkerProcess
from streamseg.types import EmitEvent, Frame

logger = logging.getLogger(__name__)

MESSAGES_PER_TURN = 32
"""Taken from one worker before the other workers have their turn."""

ReturnedSlot = tuple["DecoderHandle", int, int, int]
"""Handle, job, ring and slot of a picture that nobody looks at any more."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """What all handles of a pool have in common."""

    emit: EmitEvent
    slots: int
    max_ring_bytes: int
    timing: Timing
    backoff: Backoff


class DecoderHandle:
    """Reads one source at a time in a worker process that it starts, watches and replaces.

    Only the receiver thread uses it. Slots are given back in other threads, through
    :class:`streamseg.sources.ring.ReturnedSlots`.
    """

    def __init__(
        self,
        settings: PoolSettings,
        selector: selectors.BaseSelector,
        returned: ReturnedSlots[ReturnedSlot],
    ) -> None:
        """``selector`` waits for the worker's messages."""
        self._settings, self._selector, self._returned = settings, selector, returned
        self.for_recordings = False
        """Whether it is one of those that recordings share."""
        self.connection: StreamConnection | None = None
        """The stream that is read or waited for; after its end until :meth:`take_ended`."""
        self._process: WorkerProcess | None = None
        self._events = 0
        """What the selector waits for."""
        self._pictures = LentPictures()

    @property
    def running(self) -> bool:
        """Whether there is a worker process."""
        return self._process is not None

    @property
    def starting(self) -> bool:
        """Whether there is a worker process that has not answered yet."""
        return self.running and self.connection is not None and self.connection.unanswered

    @property
    def roomy(self) -> bool:
        """Whether frames of earlier sources were given back, so that memory stays bounded.

        Not all of them are waited for: a page that shows the last picture of a file would stop the next.
        """
        return self._pictures.in_use <= self._settings.slots // 2

    def begin(self, connection: StreamConnection) -> None:
        """Read a stream; only when none is being read."""
        self.connection = connection
        connection.begin()
        self._open(connection)

    def replace(self, source: Source) -> None:
        """Go on reading the same stream with other settings; with another ``max_fps`` alone as it is open."""
        connection = self.connection
        if connection is None or connection.over:
            return
        if connection.limit(source):
            if self._process is not None:
                self._process.send(Limit(self._pictures.job, source.max_fps))
            return
        self.kill_worker()
        connection.replace(source)
        self._open(connection)

    def end(self, error: SourceError | None = None) -> None:
        """End the stream, if there is one; the worker process stays."""
        self._pictures.unmap()
        if self.connection is not None:
            self.connection.end(error)

    def take_ended(self) -> StreamConnection | None:
        """The stream, if it has ended: it is given out once, and the next one may begin."""
        if self.connection is None or not self.connection.over:
            return None
        ended, self.connection = self.connection, None
        return ended

    def stop_worker(self) -> None:
        """Ask the worker process to exit."""
        if self._process is not None:
            self._process.stop()
            self._update_events(self._process)

    def kill_worker(self) -> None:
        """End the worker process at once; the pictures it lent stay valid."""
        self._end_process(kill=True)

    def _end_process(self, *, kill: bool) -> str:
        if self._process is None:
            return "is gone"
        process, self._process = self._process, None
        self._selector.unregister(process.channel)
        self._pictures.end_job()
        return process.end(kill=kill)

    def _open(self, connection: StreamConnection) -> None:
        connection.attempt()
        job, settings = self._pictures.begin_job(), self._settings
        if self._process is not None and self._process.stopping:
            self.kill_worker()
        try:
            process = self._process or self._start()
        except OSError as error:
            self._interrupted(connection, f"cannot start a decode worker: {error.strerror}")
            return
        source, first_index = connection.source, connection.next_index
        process.send(Open(job, source, first_index, settings.slots, settings.max_ring_bytes))

    def _start(self) -> WorkerProcess:
        self._process = process = WorkerProcess()
        self._events = selectors.EVENT_READ
        self._selector.register(process.channel, self._events, self)
        return process

    def _interrupted(
        self, connection: StreamConnection, error: str | None, refused: Refused | None = None
    ) -> None:
        """No more frames come in this attempt."""
        self._pictures.unmap()
        connection.interrupted(error, refused)

    # What happens: messages, slots that are given back, deadlines.

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
                self._process_ended()
                return
            self._handle(*received)

    def _process_ended(self) -> None:
        how = self._end_process(kill=False)
        connection = self.connection
        if connection is not None and not connection.over and connection.retry_at == math.inf:
            self._interrupted(connection, f"the decode worker {how}")

    def _handle(self, message: FromWorker, fd: int | None) -> None:
        connection = self.connection
        if connection is None or connection.over or message.job != self._pictures.job:
            if fd is not None:
                os.close(fd)
            return
        connection.answered()
        match message:
            case Opened():
                if self._map_ring(connection, message, fd):
                    connection.opened(message)
            case Resized():
                self._map_ring(connection, message, fd)
            case Note(text=text):
                logger.warning("stream %s: %s", connection.source.id, text)
            case Decoded():
                self._decoded(connection, message)
            case Counted(next_index=next_index, damaged=damaged, passed_over=passed_over):
                connection.count_to(next_index, damaged=damaged, passed_over=passed_over)
            case Damaged():
                connection.damaged(message)
            case Waiting(live=live):
                connection.waiting(live=live)
            case Ended(error=error, refused=refused):
                self._interrupted(connection, error, refused)
            case Alive():
                pass

    def _map_ring(self, connection: StreamConnection, message: Opened | Resized, fd: int | None) -> bool:
        """Show the pictures of a new ring; False if that fails, which ends the attempt."""
        if fd is None:  # the system threw it away: this process may open no more files
            failure = "no file descriptor is left for its pictures"
        else:
            try:
                self._pictures.map(message, fd)
                return True
            except (OSError, ValueError) as error:
                failure = f"cannot map the frame ring: {error}"
        self.kill_worker()
        self._interrupted(connection, failure)
        return False

    def _decoded(self, connection: StreamConnection, decoded: Decoded) -> None:
        assert connection.info is not None, "a frame before its stream"
        connection.count_to(decoded.index, passed_over=decoded.passed_over)
        connection.next_index = decoded.index + 1
        frame = Frame(
            stream=connection.source.id,
            epoch=connection.epoch,
            index=decoded.index,
            ticks=decoded.ticks,
            time_base=connection.info.time_base,
            time=decoded.time,
            pixels=self._pictures.lend(decoded.slot, self._give_back),
            decoding=decoded.seconds,
            decoded_at=decoded.decoded_at,
            pixel_aspect=self._pictures.pixel_aspect,
        )
        self._settings.emit(frame)

    def _give_back(self, job: int, ring: int, slot: int) -> None:
        """Nobody looks at a picture any more; called by finalizers, in any thread."""
        self._returned.put((self, job, ring, slot))

    def returned(self, job: int, ring: int, slot: int) -> None:
        """Nobody looks at a slot any more: :meth:`flush` tells the worker, if it still reads that job."""
        if self._pictures.take_back(job, ring, slot) and self.connection is not None:
            self.connection.slot_returned()

    def flush(self) -> None:
        """Tell the worker of all slots that were given back, as far as its socket takes it."""
        process = self._process
        if process is None:
            return
        process.flush()
        while not process.congested and (release := self._pictures.next_release()) is not None:
            process.send(release)
        self._update_events(process)

    def _update_events(self, process: WorkerProcess) -> None:
        """Let the selector wait for a full socket to become writable, and only for a full one."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if process.congested else 0)
        if events != self._events:
            self._events = events
            self._selector.modify(process.channel, events, self)

    def due_at(self) -> float:
        """When :meth:`attend` has something to do, on the monotonic clock."""
        connection = self.connection
        if connection is None:
            return math.inf
        if self._pictures.exhausted and not connection.source.live:
            return math.inf
        return min(connection.retry_at, connection.silent_at())

    def attend(self, now: float) -> None:
        """Do what is due: open the source again, or replace a worker that is silent."""
        connection = self.connection
        if connection is None or now < self.due_at():
            return
        if now >= connection.silent_at():
            self._replace_silent(connection)
        elif self.roomy:
            self._open(connection)
        else:
            connection.retry_at = now + self._settings.backoff.first

    def _replace_silent(self, connection: StreamConnection) -> None:
        live = connection.source.live and self._pictures.mapped
        why = connection.silence()
        self.kill_worker()
        if live:
            connection.stalled()
        else:
            self._interrupted(connection, why)
