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
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from streamseg.sources.decode import VideoReader
from streamseg.sources.integrity import ReadError
from streamseg.sources.messages import (
    Alive,
    Channel,
    Counted,
    Damaged,
    Decoded,
    Ended,
    FromParent,
    FromWorker,
    Open,
    Opened,
    Release,
    Stop,
    worker_channel,
)
from streamseg.sources.ring import RingWriter, slot_count

ALIVE_EVERY = 1.0
"""Seconds between signs of life while frames are decoded but none is handed over."""
FILE_THREADS = min(4, os.cpu_count() or 1)
"""For converting a recording's frames to RGB, beside the decoder's own threads."""
MAX_ERROR = 1000
"""Characters of an unforeseen error's text that are handed on."""
COUNT_EVERY = 0.25
"""Seconds between two counts of dropped frames."""
UNTAGGED = 2
"""FFmpeg's AVCOL_SPC_UNSPECIFIED: the video does not say how its colours were made."""
HD_WIDTH, HD_HEIGHT = 1280, 720
"""From this width or height on, players take untagged video for BT.709, below for BT.601."""
PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""
MAX_MEMORY = 4 << 30
"""Bytes a worker may ask for: a file that makes FFmpeg want more must not take the other workers' memory."""


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
            case Release(job=number, slots=slots) if ring is not None and ring[0] == number:
                ring[1].release(slots)
            case Stop():
                self._stop(ring)

    def _stop(self, ring: tuple[int, RingWriter] | None) -> None:
        if ring is None:
            os._exit(0)  # idle, or waiting for a source to open: there is nothing to close
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
                delivery.take(job.first_index + index, frame, ticks, seconds=reader.take_seconds())
            if delivery is None and reader.last_frame is not None:
                self._announce(job, reader, reader.last_frame)  # open and in order, but nothing was selected
        finally:
            if delivery is not None:
                delivery.report_dropped()
            damage = reader.damage
            if not job.source.live and (damage.lost or damage.concealed):
                self.send(Damaged(job.job, damage.lost, damage.concealed))

    def _announce(self, job: Open, reader: VideoReader, frame: VideoFrame) -> _Delivery:
        """Make the ring and tell the parent what kind of stream this is."""
        # Cameras are many and slow; a recording is read as fast as possible.
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
            fallback=reader.fallback,
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
        self._worker, self._job, self._writer, self._ring = worker, job, writer, ring
        self._dropped = False
        """Whether the last frame was dropped."""
        self._next_index = job.first_index
        self._last_report = 0.0

    def take(self, index: int, frame: VideoFrame, ticks: int, *, seconds: float) -> None:
        """Hand a frame over that took ``seconds`` to decode.

        A live one is dropped, and counted, if no slot is free. Raises ReadError when the picture of a live
        source has changed its size.
        """
        now, decoded_at = time.time(), time.monotonic()
        live = self._job.source.live
        self._next_index = index + 1
        if live and not self._writer.fits(frame):
            self._dropped = True
            raise ReadError(f"the picture size changed to {frame.width}x{frame.height}")
        slot = self._ring.acquire(wait=not live)
        if slot is not None:
            self._writer.write(frame, self._ring.picture(slot))
            self._worker.send(Decoded(self._job.job, slot, index, ticks, now, decoded_at, seconds))
        self._dropped = slot is None and live
        if time.monotonic() - self._last_report > COUNT_EVERY:
            self.report_dropped()

    def report_dropped(self) -> None:
        """Tell how far decoding got, if the last frame handed over does not show it."""
        self._last_report = time.monotonic()
        if self._dropped:
            self._worker.send(Counted(self._job.job, self._next_index))
            self._dropped = False


class PictureWriter:
    """Converts frames to RGB, all at the size of the first one and the right way up.

    One scaler is kept for the whole stream: building one per frame costs half as much again as the
    conversion. It follows each frame's own colour range and matrix.
    """

    def __init__(self, first: VideoFrame, *, threads: int = 1) -> None:
        """``first`` gives size and orientation; ``threads`` share the conversion of one frame."""
        self._threads = threads
        self._size = (first.width, first.height)
        # Telephones store pictures as the sensor lies and say by how much to turn them.
        self._quarter_turns = round(first.rotation / 90) % 4
        self._reformatter = VideoReformatter()

    @property
    def width(self) -> int:
        """Columns after turning."""
        return self._size[self._quarter_turns % 2]

    @property
    def height(self) -> int:
        """Rows after turning."""
        return self._size[1 - self._quarter_turns % 2]

    def fits(self, frame: VideoFrame) -> bool:
        """Whether the frame has the size of the first one."""
        return (frame.width, frame.height) == self._size

    def write(self, frame: VideoFrame, picture: NDArray[np.uint8]) -> None:
        """Fill ``picture``, (height, width, 3) uint8; a frame of another size is scaled."""
        width, height = self._size
        rgb = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            src_colorspace=_colour_matrix(frame),
            threads=self._threads,
        )
        plane: Any = rgb.planes[0]  # a buffer, which its type stub does not say
        pixels = np.ndarray((height, width, 3), np.uint8, buffer=plane, strides=(plane.line_size, 3, 1))
        np.copyto(picture, np.rot90(pixels, self._quarter_turns))


def _colour_matrix(frame: VideoFrame) -> Colorspace | None:
    """How the frame's YUV is to be turned into RGB; None for as its tags say."""
    if frame.colorspace != UNTAGGED or frame.format.is_rgb:
        return None
    hd = frame.width >= HD_WIDTH or frame.height >= HD_HEIGHT
    return Colorspace.ITU709 if hd else Colorspace.ITU601


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
