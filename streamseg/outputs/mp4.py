"""One H.264 mp4 file that keeps the source's size and time stamps to the tick."""

import ctypes
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from streamseg.errors import OutputError
from streamseg.outputs.audio import AudioReader
from streamseg.outputs.encoder import Encoder, EncoderChoice
from streamseg.outputs.files import write_failure
from streamseg.outputs.tracks import Sound

logger = logging.getLogger(__name__)

_KEY_SECONDS = 2
"""Between key frames: how far a viewer waits at most when seeking."""
_MAX_FPS = 1000
"""Pictures a second that a camera may declare."""
_MAX_TIMESCALE = 2**31 - 1
_BT709, _SMPTE170M, _LIMITED = 1, 6, 1  # ITU-T H.273 code points


class Mp4File:
    """Encodes pictures of one size into ``path``.

    While it grows the file is a fragmented mp4 that loses at most the last two seconds if the
    process is killed; :meth:`finish` turns it into a plain one with a single index.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        time_base: Fraction,
        fps: float | None,
        audio: AudioReader | None,
        encoders: EncoderChoice,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        """Open the file. Raises OutputError.

        Args:
            path: Where to.
            size: Width and height.
            time_base: Seconds per tick of the source.
            fps: Nominal pictures a second, None when unknown.
            audio: The sound that goes with it.
            pixel_aspect: Width of a pixel as it is shown, divided by its height.
        """
        self.path, self.size, self._pixel_aspect = path, size, pixel_aspect
        self.frames = 0
        self.timescale = _timescale(time_base)
        self._last_pts = -1
        self._rate = _rate(fps)
        self._key_at: int | None = None
        """Time stamp of the last key frame."""
        self._colours = _colours(*size)
        self._reformatter = VideoReformatter()
        try:
            self._container, self._video = encoders.start(self._open)
            self._audio = audio
            if audio is not None:
                audio.attach(self._container)
            self._container.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._failure(error) from error

    @property
    def last_pts(self) -> int:
        """Time stamp of the last picture in ticks of 1 / :attr:`timescale` seconds; -1 before it."""
        return self._last_pts

    @property
    def tick_per_frame(self) -> int:
        """Nominal duration of a picture in ticks."""
        return max(1, round(self.timescale / self._rate))

    def write(self, pixels: NDArray[np.uint8], pts: int) -> None:
        """Add a picture, (height, width, 3) uint8 RGB, contiguous; ``pts`` in ticks. Raises OutputError.

        A time stamp that does not lie after the last one is moved to the next tick: mp4 has no two
        pictures at one time.
        """
        if pts <= self._last_pts:
            if self._last_pts >= 0:
                logger.debug("%s: time stamp %d is not after %d", self.path, pts, self._last_pts)
            pts = self._last_pts + 1
        frame = av.VideoFrame.from_numpy_buffer(pixels, format="rgb24")  # no copy: it is converted at once
        try:
            yuv = self._reformatter.reformat(
                frame,
                format=self._video.pix_fmt,
                dst_colorspace=self._colours,
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
            )
            yuv.pts, yuv.time_base = pts, Fraction(1, self.timescale)
            # The encoder counts frames, and a declared rate of 90,000 a second is nothing to count with.
            if self._key_at is None or pts - self._key_at >= _KEY_SECONDS * self.timescale:
                yuv.pict_type, self._key_at = PictureType.I, pts
            self._mux(yuv)
            self._mux_sound(Fraction(pts, self.timescale))
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error
        self._last_pts = pts
        self.frames += 1

    def finish(self, *, whole_audio: bool) -> None:
        """Write what the encoder holds and the index. Raises OutputError.

        Args:
            whole_audio: Copy the audio to its end, else to the last picture.
        """
        try:
            self._mux(None)
            if whole_audio:
                self._mux_sound(None)
            if self._audio is not None:
                self._mux_packets(self._audio.rest())
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise self._failure(error) from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the file as it is."""
        if self._audio is not None:
            self._audio.close()
        with suppress(av.FFmpegError, OSError):  # after an error there may be no room for the index
            self._container.close()
        _trim_heap()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self._video.encode(frame):
            packet.duration = packet.duration or self.tick_per_frame  # else the last one has none
            self._container.mux(packet)

    def _open(self, encoder: Encoder) -> tuple[OutputContainer, VideoStream]:
        """The file with its video, whose encoder is open."""
        container = self._open_container(self.path)
        try:
            video = self._add_video(container, encoder)
            video.codec_context.open()
        except (av.FFmpegError, ValueError):
            container.close()
            raise
        return container, video

    def _mux_sound(self, until: Fraction | None) -> None:
        if self._audio is not None:
            self._mux_packets(self._audio.until(until))

    def _mux_packets(self, packets: Iterator[Sound]) -> None:
        """Add sound. What the file does not take ends the sound; a disk that is full ends the video."""
        assert self._audio is not None
        for packet in packets:
            try:
                self._container.mux(packet)
            except (av.error.ArgumentError, av.error.InvalidDataError) as error:
                self._audio.give_up(error)
                return

    def _open_container(self, path: Path) -> OutputContainer:
        return av.open(
            str(path),
            "w",
            format="mp4",
            options={
                "movflags": "hybrid_fragmented+delay_moov",
                # Without delay_moov the first fragment of a killed file is unreadable and a first
                # time stamp other than 0 is lost.
                "frag_duration": "1000000",  # microseconds
                "flush_packets": "1",  # a finished fragment goes to the file at once
                "use_editlist": "1",
                "video_track_timescale": str(self.timescale),
                # The gap before a first picture later than 0 is stored in these units.
                "movie_timescale": str(self.timescale),
                "avoid_negative_ts": "disabled",
            },
        )

    def _add_video(self, container: OutputContainer, encoder: Encoder) -> VideoStream:
        stream = container.add_stream(encoder.name, rate=self._rate, options=dict(encoder.options))
        assert isinstance(stream, VideoStream)
        width, height = self.size
        stream.width, stream.height = width, height
        # 4:2:0 shares colour between 2x2 pixels, and libx264 refuses it for odd sizes. Full colour
        # resolution keeps the size, at the price that some hardware decoders do not play it.
        stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, self.timescale)
        context.sample_aspect_ratio = self._pixel_aspect
        context.gop_size = round(_KEY_SECONDS * max(self._rate, Fraction(25)))
        # libx264 would start 1.5 threads per core, for every stream; four keep up with any camera.
        context.thread_count = min(4, os.cpu_count() or 1)
        context.color_range = _LIMITED
        context.colorspace = _BT709 if self._colours == Colorspace.ITU709 else _SMPTE170M
        context.color_primaries = context.color_trc = _BT709
        return stream

    def _failure(self, error: Exception) -> OutputError:
        return write_failure(self.path, error)


def _trim_heap() -> None:
    """Give freed memory back to the system.

    Encoders allocate in the heaps of several threads and leave holes behind when they are closed: 20
    MiB more after 70 short files. Trimmed (7-20 ms) the process stays as large as it was.
    """
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's; others need no telling
        trim(0)


def _colours(width: int, height: int) -> Colorspace:
    """BT.709 for HD, BT.601 below: so they are read, too, where nothing tells the colours."""
    return Colorspace.ITU709 if height >= 720 or width >= 1280 else Colorspace.ITU601


def _rate(fps: float | None) -> Fraction:
    """Nominal rate for the encoder: what a container declares may be its clock's rate, not the pictures'."""
    plausible = fps is not None and 0 < fps <= _MAX_FPS
    return Fraction(fps if fps is not None and plausible else 25).limit_denominator(1001 * 60)


def _timescale(time_base: Fraction) -> int:
    """Ticks per second in which every multiple of ``time_base`` is whole, as mp4 needs it."""
    scale = time_base.denominator
    while scale < 10_000:  # players expect milliseconds and finer
        scale *= 2
    return min(scale, _MAX_TIMESCALE)
