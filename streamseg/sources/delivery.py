"""Which frames of a source go into the ring, in the decode worker, and what is told of the others."""

from __future__ import annotations

import time
from typing import Protocol

from av.video.frame import VideoFrame

from streamseg.sources.decode import VideoReader
from streamseg.sources.integrity import ReadError
from streamseg.sources.messages import Counted, Damaged, Decoded, FromWorker, Limit, Open
from streamseg.sources.pace import RateLimit
from streamseg.sources.pictures import PictureWriter
from streamseg.sources.ring import RingWriter

COUNT_EVERY = 0.25
"""Seconds between two counts of dropped frames."""


class ParentLink(Protocol):
    """What a delivery tells the parent, and hears from it."""

    limit: Limit | None
    """The last that came: it counts for the job that it names."""

    def send(self, message: FromWorker) -> None:
        """Send to the parent."""

    def resize(self, job: Open, reader: VideoReader, frame: VideoFrame) -> tuple[PictureWriter, RingWriter]:
        """Go on with a ring for pictures of another size, and tell the parent of it."""


class Delivery:
    """Puts the frames of one job into its ring."""

    def __init__(
        self, parent: ParentLink, job: Open, reader: VideoReader, writer: PictureWriter, ring: RingWriter
    ) -> None:
        self._parent, self._job, self._reader = parent, job, reader
        self._writer, self._ring = writer, ring
        self._dropped = False
        """Whether the last frame was dropped."""
        self._rate = RateLimit(job.source.max_fps)
        self._passed_over = 0
        """Frames that it left no room for and that the parent does not know of."""
        # The numbers of a recording are those of its file, which the parent cannot know of every URL.
        told = job.source.live is not None
        self._first_index = self._next_index = job.first_index if told or reader.live else 0
        self._last_report = 0.0

    def take(self, number: int, frame: VideoFrame, ticks: int) -> None:
        """Hand over the frame of this number since the opening.

        A live one is dropped, and counted, if no slot is free, if it is damaged and not to be kept, or if
        there are more than ``max_fps``: before anything is done with its pixels. Raises ReadError when the
        picture of a live source has changed its size.
        """
        now, decoded_at = time.time(), time.monotonic()
        live, index = self._reader.live, self._first_index + number
        self._next_index = index + 1
        if self._reader.last_damaged and self._job.source.damaged == "drop":
            self._count(damaged=1)
            self._report_in_time()
            return
        if live and not self._in_rate(ticks):
            self._passed_over += 1
            self._report_in_time()
            return
        if not self._writer.fits(frame):
            self._resize(frame)
        slot = self._ring.acquire(wait=not live)
        if slot is not None:
            self._writer.write(frame, self._ring.picture(slot))
            seconds, passed_over = self._reader.take_seconds(), self._take_passed_over()
            self._parent.send(
                Decoded(self._job.job, slot, index, ticks, now, decoded_at, seconds, passed_over)
            )
        self._dropped = slot is None and live
        self._report_in_time()

    def _in_rate(self, ticks: int) -> bool:
        told = self._parent.limit
        if told is not None and told.job == self._job.job:
            self._rate.change(told.max_fps)
        return self._rate.takes(float(ticks * self._reader.facts.time_base))

    def _take_passed_over(self) -> int:
        count, self._passed_over = self._passed_over, 0
        return count

    def _count(self, *, damaged: int = 0) -> None:
        self._parent.send(Counted(self._job.job, self._next_index, damaged, self._take_passed_over()))
        self._dropped = False

    def _report_in_time(self) -> None:
        if time.monotonic() - self._last_report > COUNT_EVERY:
            self.report_dropped()

    def _resize(self, frame: VideoFrame) -> None:
        if self._reader.live:
            self._dropped = True
            raise ReadError(f"the picture size changed to {frame.width}x{frame.height}")
        self._writer, self._ring = self._parent.resize(self._job, self._reader, frame)

    def report_dropped(self) -> None:
        """Tell how far decoding got, if the last frame handed over does not show it, and what was damaged."""
        self._last_report = time.monotonic()
        frames, packets = self._reader.live_damage.take()
        if frames or packets:
            self._parent.send(Damaged(self._job.job, 0, frames, packets))
        if self._dropped or self._passed_over:
            self._count()
