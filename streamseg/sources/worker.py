"""The decode worker: a process that reads one source after the other into a frame ring.

    python -m streamseg.sources.worker SOCKET_FD PARENT_PID

It loads neither torch nor OpenCV, decides nothing about reconnecting, and exits when its parent does,
however that ends.
"""

from __future__ import annotations

import ctypes
import os
import queue
import resource
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from av.video.frame import VideoFrame

from streamseg.sources.decode import VideoReader
from streamseg.sources.delivery import Delivery
from streamseg.sources.integrity import OUT_OF_MEMORY, ReadError
from streamseg.sources.messages import (
    Alive,
    Channel,
    Damaged,
    Ended,
    FromParent,
    FromWorker,
    Limit,
    Note,
    Open,
    Opened,
    Release,
    Resized,
    Stop,
    Waiting,
    worker_channel,
)
from streamseg.sources.pictures import PictureWriter
from streamseg.sources.ring import RingWriter, slot_count

ALIVE_EVERY = 1.0
"""Seconds between signs of life while frames are decoded but none is handed over."""
FILE_THREADS = min(4, os.cpu_count() or 1)
"""For converting a recording's frames to RGB, beside the decoder's own threads."""
MAX_ERROR = 1000
"""Characters of an unforeseen error's text that are handed on."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""
MAX_MEMORY = 4 << 30
"""Bytes a worker may ask for: a file that makes FFmpeg want more must not take the other workers' memory."""
NOT_LIMITED = "max_fps is for live sources; all frames of a recording are taken, or every Nth with stride"


class Worker:
    """Does the parent's jobs in order, while a second thread listens for releases and the end."""

    def __init__(self, channel: Channel[FromParent]) -> None:
        self._channel = channel
        self._jobs: queue.SimpleQueue[Open | None] = queue.SimpleQueue()
        self._ring: _Ring | None = None
        self._ring_changes = threading.Lock()
        self._stopping = False
        self._last_sent = 0.0
        self._noted: set[tuple[str, str]] = set()
        """What was told of which stream: a camera's every connection would tell it again."""
        self.limit: Limit | None = None
        """The last that came: it counts for the job that it names."""

    def listen(self) -> None:
        """Take the parent's messages until it is gone; then the process ends at once."""
        try:
            while received := self._channel.receive():
                self._handle(received[0])
        finally:
            os._exit(0)  # decoding may be stuck in FFmpeg, which no exception reaches

    def _handle(self, message: FromParent) -> None:
        match message:
            case Open():
                self._jobs.put(message)
            case Release():
                with self._ring_changes:
                    self._release(message)
            case Limit():
                self.limit = message
            case Stop():
                with self._ring_changes:
                    self._stop()

    def _release(self, message: Release) -> None:
        if self._ring is None or self._ring.job != message.job:
            return
        if self._ring.number == message.ring:
            self._ring.slots.release(message.slots)
        else:
            self._ring.slots.released_before(len(message.slots))

    def _stop(self) -> None:
        if self._ring is None:
            os._exit(0)  # idle, or waiting for a source to open: there is nothing to close
        self._stopping = True
        self._jobs.put(None)
        self._ring.slots.stop()

    def run(self) -> None:
        """Do jobs until told to stop."""
        while (job := self._jobs.get()) is not None:
            self.send(self._read(job))

    def send(self, message: FromWorker, *, fd: int | None = None) -> None:
        """Send to the parent; without a parent the process ends."""
        self._last_sent = time.monotonic()
        try:
            self._channel.send(message, fd=fd)
        except OSError:
            os._exit(0)

    def alive(self, job: int) -> None:
        """Give a sign of life if it is time for one."""
        if time.monotonic() - self._last_sent > ALIVE_EVERY:
            self.send(Alive(job))

    def waiting(self, job: int, live: bool) -> None:
        """The same while there is no picture, although data comes."""
        if time.monotonic() - self._last_sent > ALIVE_EVERY:
            self.send(Waiting(job, live))

    def note(self, job: Open, text: str) -> None:
        """Tell the user something of a source, once."""
        if (job.source.id, text) not in self._noted:
            self._noted.add((job.source.id, text))
            self.send(Note(job.job, text))

    def _read(self, job: Open) -> Ended:
        """Read one source to its end; returns what went wrong, if anything."""
        self.send(Alive(job.job))
        try:
            with VideoReader(
                job.source,
                alive=partial(self.alive, job.job),
                waiting=partial(self.waiting, job.job),
                note=partial(self.note, job),
            ) as reader:
                self._deliver(job, reader)
        except ReadError as error:
            return Ended(job.job, str(error), error.refused)
        except MemoryError:
            return Ended(job.job, OUT_OF_MEMORY)
        except Exception as error:  # noqa: BLE001  whatever a strange file provokes: the next one may be read
            return Ended(job.job, f"{type(error).__name__}: {error}"[:MAX_ERROR])
        finally:
            self._close_ring()
        return Ended(job.job, None)

    def _deliver(self, job: Open, reader: VideoReader) -> None:
        delivery: Delivery | None = None
        try:
            for index, frame, ticks in reader.selected():
                if self._stopping:
                    return
                delivery = delivery or self._announce(job, reader, frame, ticks)
                delivery.take(index, frame, ticks)
            if delivery is None and reader.last_frame is not None:
                # Open and in order, but nothing was selected.
                self._announce(job, reader, reader.last_frame, reader.last_frame.pts or 0)
        finally:
            if delivery is not None:
                delivery.report_dropped()
            damage = reader.damage
            if not reader.live and (damage.lost or damage.concealed):
                self.send(Damaged(job.job, damage.lost, damage.concealed))

    def _announce(self, job: Open, reader: VideoReader, frame: VideoFrame, ticks: int) -> Delivery:
        """Make the ring and tell the parent what kind of stream this is."""
        writer, ring = self._ring_for(job, reader, frame)
        if job.source.max_fps is not None and not reader.live:
            self.note(job, NOT_LIMITED)
        opened = Opened(
            job=job.job,
            width=writer.width,
            height=writer.height,
            time_base=reader.facts.time_base.as_integer_ratio(),
            fps=reader.facts.fps,
            frame_count=reader.facts.frame_count,
            has_audio=reader.facts.has_audio,
            live=reader.live,
            fallback=reader.fallback,
            slots=ring.slots,
            origin=reader.facts.origin,
            begins=reader.facts.begins(ticks),
            pixel_aspect=reader.facts.pixel_aspect(turned=writer.turned),
            reread=reader.facts.reread,
        )
        self.send(opened, fd=ring.fd)
        return Delivery(self, job, reader, writer, ring)

    def resize(self, job: Open, reader: VideoReader, frame: VideoFrame) -> tuple[PictureWriter, RingWriter]:
        """Go on with a ring for pictures of another size."""
        writer, ring = self._ring_for(job, reader, frame)
        assert self._ring is not None
        resized = Resized(
            job=job.job,
            ring=self._ring.number,
            width=writer.width,
            height=writer.height,
            pixel_aspect=reader.facts.pixel_aspect(turned=writer.turned),
            slots=ring.slots,
        )
        self.send(resized, fd=ring.fd)
        return writer, ring

    def _ring_for(
        self, job: Open, reader: VideoReader, frame: VideoFrame
    ) -> tuple[PictureWriter, RingWriter]:
        """The next ring of a job; the one before lives on in the parent."""
        # Cameras are many and slow; a recording is read as fast as possible.
        writer = PictureWriter(frame, threads=1 if reader.live else FILE_THREADS)
        slots = slot_count(job.slots, writer.height * writer.width * 3, job.max_ring_bytes)
        with self._ring_changes:
            before = self._ring
            ring = RingWriter(
                writer.height, writer.width, slots, lent_before=before.slots.lent if before else 0
            )
            self._ring = _Ring(job.job, before.number + 1 if before else 0, ring)
            if self._stopping:
                ring.stop()
        if before is not None:
            before.slots.close()
        return writer, ring

    def _close_ring(self) -> None:
        with self._ring_changes:
            ring, self._ring = self._ring, None
        if ring is not None:
            ring.slots.close()


@dataclass(frozen=True, slots=True)
class _Ring:
    job: int
    number: int
    """Within the job: a recording gets another ring when its pictures change their size."""
    slots: RingWriter


def _die_with_parent() -> None:
    """Have the kernel end this process with its parent, even while it is stopped (SIGSTOP)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _limit_memory() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MAX_MEMORY if most == resource.RLIM_INFINITY else min(MAX_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _watch_parent(pid: int) -> None:
    """End this process with its parent, even while a fork of the parent keeps the socket open."""
    try:
        select.select([os.pidfd_open(pid)], [], [])
    except ProcessLookupError:
        pass
    except OSError:
        return  # an old kernel or a sandbox: the socket's end has to do
    os._exit(0)


def main(socket_fd: str, parent_pid: str) -> None:
    """Run the worker on an inherited socket."""
    # A Ctrl-C, a closed terminal or a service manager's SIGTERM reaches the whole group; the parent decides
    # what to do.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    _limit_memory()
    worker = Worker(worker_channel(int(socket_fd)))
    threading.Thread(target=_watch_parent, args=(int(parent_pid),), daemon=True).start()
    threading.Thread(target=worker.listen, daemon=True).start()
    worker.run()
    os._exit(0)  # nothing is left to clean up, and nobody waits for FFmpeg's threads


if __name__ == "__main__":
    main(*sys.argv[1:])
