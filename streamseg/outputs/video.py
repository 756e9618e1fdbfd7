"""The overlay video: what the camera saw with the masks painted in."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from streamseg.config import OverlayOptions
from streamseg.errors import UsageError
from streamseg.outputs.audio import AudioCopy
from streamseg.outputs.files import (
    check_writable,
    keep_partial,
    keep_whole,
    output_path,
    partial_path,
    write_failure,
)
from streamseg.outputs.mp4 import Mp4Writer
from streamseg.overlay.paint import Painter
from streamseg.types import Frame, FramePolicy, FrameResult, Instances, StreamInfo

logger = logging.getLogger(__name__)

_SUFFIXES = (".mp4", ".m4v", ".mov")


@dataclass(slots=True)
class _Recording:
    """The files of one stream: a new part when the picture's size changes, and every hour of a live one."""

    path: Path
    info: StreamInfo
    parts: int = 0
    began: float = 0.0
    """UNIX seconds of the part's first picture."""
    writer: Mp4Writer | None = None
    epoch: int = -1
    origin: Fraction = field(default_factory=Fraction)
    """Seconds on the stream's clock that are second 0 of the file."""
    last_time: float = 0.0
    """UNIX seconds of the last picture."""
    bumped: bool = False
    cut_short: bool = False

    @property
    def part_path(self) -> Path:
        if self.parts == 1:
            return self.path
        return self.path.with_name(f"{self.path.stem}.part{self.parts}{self.path.suffix}")


class VideoOutput:
    """Writes an H.264 mp4 per stream, in the size and with the time stamps of the source.

    Recorded files keep their sound. The video of a live stream starts at 0 and goes on in real time
    after a reconnect. Every hour, and if the picture has another size, it goes on in ``NAME.part2.mp4``.
    """

    needs_pixels = True

    def __init__(
        self,
        path_template: str,
        *,
        several: bool = False,
        audio: bool = True,
        overlay: OverlayOptions | None = None,
        part_seconds: float = 3600.0,
    ) -> None:
        """Set up; nothing is written yet.

        Args:
            path_template: See :func:`output_path`.
            several: Whether there is more than one stream.
            audio: Copy the sound of recorded files.
            overlay: What is painted.
            part_seconds: A live stream goes on in another file after so long. An open mp4 needs 74 bytes of
                memory for each frame (measured), 160 MB a day of one camera.
        """
        self._part_seconds = part_seconds
        self._painter = Painter(overlay)
        self._template = path_template
        self._several = several
        self._audio = audio
        self._recordings: dict[str, _Recording] = {}

    def path(self, stream: str) -> Path:
        """File of a stream. Raises UsageError."""
        path = output_path(self._template, stream, ".mp4", several=self._several)
        if path.suffix.lower() not in _SUFFIXES:
            raise UsageError(
                f"{path}: an overlay video is an mp4 file, its name ends in {', '.join(_SUFFIXES)}"
            )
        return path

    def check(self, streams: Sequence[str]) -> None:
        """Make sure, before anything is processed, that the files can be written. Raises UsageError."""
        for stream in streams:
            check_writable(self.path(stream))

    def has_finished(self, stream: str) -> bool:
        """Whether an earlier run wrote the whole video of a stream."""
        path = self.path(stream)
        return path.exists() and not partial_path(path).exists()

    def open(self, info: StreamInfo) -> None:
        """Make sure that the stream's file can be written. Raises UsageError or OutputError."""
        if (recording := self._recordings.get(info.stream)) is not None:
            recording.info = info
            return
        path = self.path(info.stream)
        if path.exists() and os.path.exists(info.url) and path.samefile(info.url):
            raise UsageError(f"{path} is the source itself, the overlay video needs another name")
        check_writable(path)
        try:
            partial_path(path).touch()  # from now on the file of an earlier run counts as outdated
        except OSError as error:
            raise write_failure(path, error) from error
        self._recordings[info.stream] = _Recording(path, info)

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        """Paint and encode one picture. Raises OutputError."""
        assert frame is not None
        assert instances is not None
        recording = self._recordings[result.stream]
        writer = self._writer(recording, frame)
        pts = self._pts(recording, writer, frame)
        if pts <= writer.last_pts and not recording.bumped:
            recording.bumped = True
            logger.warning("stream %s: time stamps do not increase, moved by a tick", frame.stream)
        writer.write(self._painter.paint(frame, instances), pts)
        recording.last_time = frame.time

    def cut_short(self, stream: str) -> None:
        """Take notice, before the end, that the stream's source was stopped: its sound is cut as well."""
        if (recording := self._recordings.get(stream)) is not None:
            recording.cut_short = True

    def close(self, stream: str, *, complete: bool) -> None:
        """Finish the stream's file. Raises OutputError."""
        self._painter.forget(stream)
        if (recording := self._recordings.pop(stream, None)) is None:
            return
        if recording.writer is None:
            keep_partial(partial_path(recording.path), empty=True)
            logger.warning("stream %s: no pictures, so no video %s", stream, recording.path)
            return
        self._finish(recording, complete=complete)

    def shutdown(self) -> None:
        """Close what is still open as incomplete."""
        for stream in list(self._recordings):
            self.close(stream, complete=False)

    def _writer(self, recording: _Recording, frame: Frame) -> Mp4Writer:
        """The file that takes ``frame``: the open one, or the next part."""
        size, info, level = (frame.width, frame.height), recording.info, logging.INFO
        if recording.writer is not None:
            live = info.policy is FramePolicy.NEWEST_FRAME
            full = live and frame.time - recording.began >= self._part_seconds
            if recording.writer.size == size and not full:
                return recording.writer
            level = logging.INFO if recording.writer.size == size else logging.WARNING
            self._finish(recording, complete=True)
        recording.parts += 1
        if recording.parts > 1:
            logger.log(level, "stream %s: now %dx%d, goes on in %s", frame.stream, *size, recording.part_path)
        recording.epoch, recording.began = -1, frame.time
        with_audio = (
            self._audio and info.has_audio and info.policy is FramePolicy.EVERY_FRAME and recording.parts == 1
        )
        recording.writer = Mp4Writer(
            partial_path(recording.part_path),
            width=frame.width,
            height=frame.height,
            time_base=frame.time_base,
            fps=info.fps,
            audio=AudioCopy(info) if with_audio else None,
        )
        return recording.writer

    @staticmethod
    def _pts(recording: _Recording, writer: Mp4Writer, frame: Frame) -> int:
        """Time stamp of ``frame`` in ticks of the file."""
        seconds = frame.ticks * frame.time_base
        if frame.epoch != recording.epoch:
            recording.epoch = frame.epoch
            recording.origin = _origin(recording, writer, frame, seconds)
        return round((seconds - recording.origin) * writer.timescale)

    @staticmethod
    def _finish(recording: _Recording, *, complete: bool) -> None:
        writer, path = recording.writer, recording.part_path
        assert writer is not None
        recording.writer = None
        try:
            writer.finish(whole_audio=complete and not recording.cut_short)
            if complete:
                keep_whole(partial_path(path), path)
        except OSError as error:
            raise write_failure(path, error) from error
        finally:
            if not complete:
                keep_partial(partial_path(path), empty=writer.frames == 0)


def _origin(recording: _Recording, writer: Mp4Writer, frame: Frame, seconds: Fraction) -> Fraction:
    """Second on the stream's clock, from ``frame`` on, that is second 0 of the file."""
    info = recording.info
    if info.policy is FramePolicy.EVERY_FRAME:
        start = round(Fraction(info.start) / frame.time_base) * frame.time_base
        return min(start, seconds)  # a clock that begins below 0 is moved, mp4 has no time before 0
    if writer.frames == 0:
        return seconds
    # The clock of a camera starts anew after a reconnect: the time in between is taken from ours.
    gap = max(frame.time - recording.last_time, 0.0)
    ticks = max(round(gap * writer.timescale), writer.tick_per_frame)
    return seconds - Fraction(writer.last_pts + ticks, writer.timescale)
