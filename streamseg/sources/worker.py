"""The decode worker: a process that reads one source after the other into a frame ring.

    python -m streamseg.sources.worker SOCKET_FD PARENT_PID

It loads neither torch nor OpenCV, decides nothing about reconnecting, and goes when its parent
goes, however that ends.
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

from av.video.frame import VideoFrame

from streamseg.sources.decode import VideoReader
from streamseg.sources.faults import ReadError
from streamseg.sources.messages import (
    Alive,
    Channel,
    Decoded,
    Ended,
    FromParent,
    FromWorker,
    Harm,
    Open,
    Opened,
    Release,
    Skipped,
    Stop,
    worker_channel,
)
from streamseg.sources.picture import PictureWriter
from streamseg.sources.ring import RingWriter, slot_count

ALIVE_EVERY = 1.0
"""Seconds between signs of life while frames are decoded but none is handed over."""
FILE_THREADS = min(4, os.cpu_count() or 1)
"""For converting a recording's frames to RGB, beside the decoder's own threads."""
MAX_ERROR = 1000
"""Characters of an unforeseen error's text that are handed on."""
SKIPPED_EVERY = 0.25
"""Seconds between two counts of dropped frames."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""
MAX_MEMORY = 4 << 30
"""Bytes a worker may ask for: a file that makes FFmpeg want more shall not cost the others theirs."""


class Worker:
    """Does the parent's jobs in order, while a second thread listens for releases and the end."""

    def __init__(self, channel: Channel[FromParent]) -> None:
        self._channel = channel
        self._jobs: queue.SimpleQueue[Open | None] = queue.SimpleQueue()
        self._ring: tuple[int, RingWriter] | None = None
        self._stopping = False
        self._last_sent = 0.0

    def listen(self) -> None:
        """Take the parent's messages until it is gone; then the process ends at once."""
        try:
            while received := self._channel.receive():
                self._handle(received[0])
        finally:
            os._exit(0)  # decoding may be stuck in FFmpeg, which no exception reaches

    def _handle(self, message: FromParent) -> None:
        ring = self._ring
        match message:
            case Open():
                self._jobs.put(message)
            case Release(job=number, slot=slot) if ring is not None and ring[0] == number:
                ring[1].release(slot)
            case Stop():
                self._stop(ring)

    def _stop(self, ring: tuple[int, RingWriter] | None) -> None:
        if ring is None:
            os._exit(0)  # idle, or waiting for a source to open: there is nothing to put in order
        self._stopping = True
        self._jobs.put(None)
        ring[1].stop()

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

    def _read(self, job: Open) -> Ended:
        """Read one source to its end; returns what went wrong, if anything."""
        self.send(Alive(job.job))
        try:
            with VideoReader(job.source, alive=lambda: self.alive(job.job)) as reader:
                self._deliver(job, reader)
        except ReadError as error:
            return Ended(job.job, str(error), error.refused)
        except Exception as error:  # noqa: BLE001  whatever a strange file provokes: the next one may be read
            return Ended(job.job, f"{type(error).__name__}: {error}"[:MAX_ERROR])
        finally:
            self._close_ring()
        return Ended(job.job, None)

    def _deliver(self, job: Open, reader: VideoReader) -> None:
        delivery: _Delivery | None = None
        try:
            for index, frame, ticks in reader.selected():
                if self._stopping:
                    return
                delivery = delivery or self._announce(job, reader, frame)
                delivery.take(job.first_index + index, frame, ticks)
            if delivery is None and reader.last_frame is not None:
                self._announce(job, reader, reader.last_frame)  # open and in order, but nothing was selected
        finally:
            if delivery is not None:
                delivery.report_skipped()
            losses = reader.losses
            if not job.source.live and (losses.lost or losses.concealed):
                self.send(Harm(job.job, losses.lost, losses.concealed))

    def _announce(self, job: Open, reader: VideoReader, frame: VideoFrame) -> _Delivery:
        """Make the ring and tell the parent what kind of stream this is."""
        # Cameras are many and slow; a recording is to be read as fast as it goes.
        writer = PictureWriter(frame, threads=1 if job.source.live else FILE_THREADS)
        slots = slot_count(job.slots, writer.height * writer.width * 3, job.max_ring_bytes)
        ring = RingWriter(writer.height, writer.width, slots)
        self._ring = (job.job, ring)
        opened = Opened(
            job=job.job,
            width=writer.width,
            height=writer.height,
            time_base=reader.time_base.as_integer_ratio(),
            fps=reader.fps,
            frame_count=reader.frame_count,
            has_audio=reader.has_audio,
            slots=slots,
            origin=reader.origin,
        )
        self.send(opened, fd=ring.fd)
        return _Delivery(self, job, writer, ring)

    def _close_ring(self) -> None:
        if self._ring is not None:
            ring = self._ring[1]
            self._ring = None
            ring.close()


class _Delivery:
    """Puts the frames of one job into its ring."""

    def __init__(self, worker: Worker, job: Open, writer: PictureWriter, ring: RingWriter) -> None:
        self._worker = worker
        self._job = job
        self._writer = writer
        self._ring = ring
        self._skipped = False
        self._next_index = job.first_index
        self._last_report = 0.0

    def take(self, index: int, frame: VideoFrame, ticks: int) -> None:
        """Hand a frame over; a live one is dropped, and counted, if there is no room for it."""
        now = time.time()
        live = self._job.source.live
        self._next_index = index + 1
        if live and not self._writer.fits(frame):
            self._skipped = True
            raise ReadError(f"the picture size changed to {frame.width}x{frame.height}")
        slot = self._ring.acquire(wait=not live)
        if slot is not None:
            self._writer.write(frame, self._ring.picture(slot))
            self._worker.send(Decoded(self._job.job, slot, index, ticks, now))
        self._skipped = slot is None and live
        if time.monotonic() - self._last_report > SKIPPED_EVERY:
            self.report_skipped()

    def report_skipped(self) -> None:
        """Tell how far decoding got, if that is not clear from the last frame handed over."""
        self._last_report = time.monotonic()
        if self._skipped:
            self._worker.send(Skipped(self._job.job, self._next_index))
            self._skipped = False


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
    # A Ctrl-C, a closed terminal or a service manager's SIGTERM reaches the whole group; what to do is the
    # parent's decision.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    _limit_memory()
    worker = Worker(worker_channel(int(socket_fd)))
    threading.Thread(target=_watch_parent, args=(int(parent_pid),), daemon=True).start()
    threading.Thread(target=worker.listen, daemon=True).start()
    worker.run()
    os._exit(0)  # nothing is left to clean up, and FFmpeg's threads need not be waited for


if __name__ == "__main__":
    main(*sys.argv[1:])
