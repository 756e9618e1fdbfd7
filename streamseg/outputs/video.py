"""The overlay video: what the camera saw with the masks painted in."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from streamseg.config import OverlayOptions
from streamseg.errors import OutputError, UsageError
from streamseg.files import check_writable, mark_complete, partial_path
from streamseg.outputs.audio import AudioReader
from streamseg.outputs.encoder import Encode, EncoderChoice
from streamseg.outputs.files import leave_partial, output_path, put_aside, write_failure, written_since
from streamseg.outputs.mp4 import Mp4File
from streamseg.outputs.timeline import Timeline
from streamseg.overlay.paint import Painter
from streamseg.types import (
    Frame,
    FramePolicy,
    FrameResult,
    Instances,
    Output,
    Pixels,
    StreamEnd,
    StreamInfo,
    StreamWriter,
)
from streamseg.zones import StreamRules

logger = logging.getLogger(__name__)

_SUFFIXES = (".mp4", ".m4v", ".mov")


class VideoOutput(Output):
    """Writes an H.264 mp4 per stream, in the size and with the time stamps of the source.

    Recorded files keep their sound. The video of a live stream starts at 0 and goes on in real time
    after a reconnect. Every hour, and if the picture has another size, it goes on in ``NAME.part2.mp4``.
    """

    pixels = Pixels.ALWAYS
    writers_at_once = os.cpu_count() or 1

    def __init__(
        self,
        path_template: str,
        *,
        several: bool = False,
        audio: bool = True,
        overlay: OverlayOptions | None = None,
        rules: Mapping[str, StreamRules] | None = None,
        part_seconds: float = 3600.0,
        encode: Encode = "auto",
    ) -> None:
        """Set up; nothing is written yet.

        Args:
            path_template: See :func:`output_path`.
            several: Whether there is more than one stream.
            audio: Copy the sound of recorded files.
            overlay: What is painted.
            rules: Those of streams by id, whose zones and lines are painted.
            part_seconds: A live stream goes on in another file after so long. An open mp4 needs 74 bytes of
                memory for each frame (measured), 160 MB a day of one camera.
            encode: Who encodes: ``auto``, ``x264`` or ``nvenc``, which falls back to x264.

        Raises UsageError for an unknown encoder.
        """
        self._template, self._several = path_template, several
        self._audio, self._overlay, self._part_seconds = audio, overlay, part_seconds
        self._rules = rules
        self._encoders = EncoderChoice(encode)
        self._parts: dict[str, int] = {}
        """Files that stay as they are, by stream."""

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

    def has_finished(self, stream: str, *, since: float = 0.0) -> bool:
        """Whether an earlier run wrote the whole video of a stream.

        ``since``: older files, in UNIX seconds, do not count.
        """
        path = self.path(stream)
        return written_since(path, since) and not partial_path(path).exists()

    def go_on(self, stream: str, *, since: float) -> None:
        """Begin a camera's video with the next part behind those that are there since then, in UNIX seconds.

        Raises UsageError: the name cannot be a video's.
        """
        parts = itertools.count(1)
        paths = (part_path(self.path(stream), number) for number in parts)
        there = itertools.takewhile(lambda path: _is_there(path, since), paths)
        self._parts[stream] = sum(1 for _ in there)

    def open(self, info: StreamInfo) -> VideoWriter:
        """Make sure that the stream's file can be written. Raises UsageError or OutputError."""
        path = self.path(info.stream)
        if path.exists() and os.path.exists(info.url) and path.samefile(info.url):
            raise UsageError(f"{path} is the source itself, the overlay video needs another name")
        check_writable(path)
        parts = self._parts.pop(info.stream, 0)
        if not parts:
            put_aside(path, info)
        try:
            if not parts:
                partial_path(path).touch()  # from now on the file of an earlier run counts as outdated
        except OSError as error:
            raise write_failure(path, error) from error
        return VideoWriter(
            path,
            info,
            painter=Painter(self._overlay, self._rules),
            audio=self._audio,
            part_seconds=self._part_seconds,
            encoders=self._encoders,
            parts=parts,
        )


def part_path(path: Path, number: int) -> Path:
    """The file of a video's part, from 1."""
    return path if number == 1 else path.with_name(f"{path.stem}.part{number}{path.suffix}")


def _is_there(path: Path, since: float) -> bool:
    return written_since(path, since) or written_since(partial_path(path), since)


class VideoWriter(StreamWriter):
    """The files of one stream: a new part when the picture's size changes, and every hour of a live one."""

    def __init__(
        self,
        path: Path,
        info: StreamInfo,
        *,
        painter: Painter,
        audio: bool,
        part_seconds: float,
        encoders: EncoderChoice,
        parts: int = 0,
    ) -> None:
        """Set up; the first file begins with the first picture, behind so many parts that are there.

        For the rest see :class:`VideoOutput`.
        """
        self._path, self._info, self._painter = path, info, painter
        self._audio, self._part_seconds, self._encoders = audio, part_seconds, encoders
        self._parts = parts
        self._file: Mp4File | None = None
        self._began = 0.0
        """Monotonic seconds when the part's first picture was decoded."""
        self._timeline: Timeline | None = None
        """Of the part."""
        self._warned = False

    @property
    def _live(self) -> bool:
        return self._info.policy is FramePolicy.NEWEST_FRAME

    @property
    def _part_path(self) -> Path:
        return part_path(self._path, self._parts)

    def begin_epoch(self, info: StreamInfo) -> None:
        """Go on with the camera's new connection."""
        self._info = info

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        """Paint and encode one picture. Raises OutputError."""
        assert frame is not None
        assert instances is not None
        file = self._file_for(frame)
        assert self._timeline is not None
        pts = self._timeline.pts(frame)
        if pts <= file.last_pts and not self._warned:
            self._warned = True
            logger.warning("stream %s: time stamps do not increase, moved by a tick", frame.stream)
        file.write(self._painter.paint(frame, instances, result.counts), pts)

    def close(self, end: StreamEnd) -> None:
        """Finish the file; where a stream was stopped, its sound ends with its pictures.

        Raises OutputError.
        """
        if self._file is not None:
            self._finish(end)
        elif not self._parts:
            leave_partial(self._path, empty=True)
            logger.warning("stream %s: no pictures, so no video %s", self._info.stream, self._path)

    def _file_for(self, frame: Frame) -> Mp4File:
        """The file that takes ``frame``: the open one, or the next part."""
        if self._file is not None:
            same = self._file.size == (frame.width, frame.height)
            full = self._live and frame.decoded_at - self._began >= self._part_seconds
            if same and not full:
                return self._file
            self._finish(StreamEnd.ENDED, whole_audio=False)
            return self._next_file(frame, logging.INFO if same else logging.WARNING)
        return self._next_file(frame)

    def _next_file(self, frame: Frame, level: int = logging.DEBUG) -> Mp4File:
        self._parts += 1
        size, stream = (frame.width, frame.height), self._info.stream
        logger.log(level, "stream %s: now %dx%d, in %s", stream, *size, self._part_path)
        self._began = frame.decoded_at
        put_aside(self._part_path, self._info)
        try:
            self._file = Mp4File(
                partial_path(self._part_path),
                size=size,
                time_base=frame.time_base,
                fps=self._info.fps,
                audio=self._sound(frame),
                encoders=self._encoders,
                pixel_aspect=frame.pixel_aspect,
            )
        except OutputError:
            leave_partial(self._part_path, empty=True)
            raise
        self._timeline = Timeline(
            self._file.timescale,
            tick_per_frame=self._file.tick_per_frame,
            begin=None if self._live else self._second_0(frame),
        )
        return self._file

    def _sound(self, frame: Frame) -> AudioReader | None:
        """The sound of the part that begins with ``frame``."""
        if not self._audio or not self._info.has_audio or self._live:
            return None
        if not self._info.reread:
            if self._parts == 1:
                logger.warning("stream %s: can be read only once, so its sound is left out", frame.stream)
            return None
        return AudioReader(self._info, begin=self._second_0(frame))

    def _second_0(self, frame: Frame) -> Fraction:
        """Second on a recording's clock that is second 0 of the part that begins with ``frame``."""
        first = frame.ticks * frame.time_base
        if self._parts > 1:
            return first
        begin = Fraction(self._info.start or self._info.origin)
        return min(round(begin / frame.time_base) * frame.time_base, first)

    def _finish(self, end: StreamEnd, *, whole_audio: bool = True) -> None:
        """Finish the open file; it gets its name unless the stream or the disk failed."""
        file, path, complete = self._file, self._part_path, False
        assert file is not None
        self._file = None
        try:
            file.finish(whole_audio=whole_audio and end is StreamEnd.ENDED)
            if end is not StreamEnd.FAILED:
                mark_complete(partial_path(path), path)
                complete = True
        except OSError as error:
            raise write_failure(path, error) from error
        finally:
            if not complete:
                leave_partial(path, empty=file.frames == 0)
