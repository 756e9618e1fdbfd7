"""Pictures become H.264 in a track of an open container: a file, or packets for the network."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av import Packet
from av.codec.context import Flags
from av.container import OutputContainer
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from streamseg.outputs.encoder import Encoder

logger = logging.getLogger(__name__)

_KEY_SECONDS = 2
"""Between key frames: how far a viewer waits at most when seeking, or for a first picture."""
_MAX_FPS = 1000
"""Pictures a second that a camera may declare."""
_BT709, _SMPTE170M, _LIMITED = 1, 6, 1  # ITU-T H.273 code points


class PictureFormat:
    """What is to be encoded."""

    def __init__(
        self,
        size: tuple[int, int],
        timescale: int,
        *,
        fps: float | None,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        """For pictures of ``size`` (width, height) whose time stamps are ticks of 1 / ``timescale`` seconds.

        ``fps`` is their nominal rate, None when unknown; ``pixel_aspect`` the width of a pixel as it is
        shown, divided by its height.
        """
        self.size, self.timescale, self.pixel_aspect = size, timescale, pixel_aspect
        self.rate = _rate(fps)

    @property
    def tick_per_frame(self) -> int:
        """Nominal duration of a picture in ticks."""
        return max(1, round(self.timescale / self.rate))


class PictureTrack:
    """Encodes RGB pictures; every two seconds, and at first, comes a key frame."""

    def __init__(
        self,
        container: OutputContainer,
        encoder: Encoder,
        format_: PictureFormat,
        *,
        parameter_sets: bool = False,
    ) -> None:
        """Add the track and open the encoder. Raises av.FFmpegError or ValueError.

        ``parameter_sets``: they are wanted beforehand, although the container does not need them.
        """
        self.frames = 0
        """Pictures encoded."""
        self.last_pts = -1
        """Time stamp of the last one in ticks; -1 before it."""
        self._format = format_
        self._key_at: int | None = None
        """Time stamp of the last key frame."""
        self._colours = _colours(*format_.size)
        self._reformatter = VideoReformatter()
        self._stream = self._add_to(container, encoder)
        if parameter_sets:
            self._stream.codec_context.flags |= Flags.global_header
        self._stream.codec_context.open()

    @property
    def parameter_sets(self) -> bytes:
        """What a decoder has to know beforehand, as Annex B of H.264; empty if it is in the stream alone."""
        return self._stream.codec_context.extradata or b""

    def encode(self, pixels: NDArray[np.uint8], pts: int) -> Iterator[Packet[Any]]:
        """Encode a picture, (height, width, 3) uint8 RGB, contiguous; ``pts`` in ticks.

        A time stamp that does not lie after the last one is moved to the next tick: no container has two
        pictures at one time. Raises av.FFmpegError.
        """
        if pts <= self.last_pts:
            if self.last_pts >= 0:
                logger.debug("time stamp %d is not after %d", pts, self.last_pts)
            pts = self.last_pts + 1
        frame = av.VideoFrame.from_numpy_buffer(pixels, format="rgb24")  # no copy: it is converted at once
        yuv = self._reformatter.reformat(
            frame,
            format=self._stream.pix_fmt,
            dst_colorspace=self._colours,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
        )
        yuv.pts, yuv.time_base = pts, Fraction(1, self._format.timescale)
        # The encoder counts frames, and a declared rate of 90,000 a second is nothing to count with.
        if self._key_at is None or pts - self._key_at >= _KEY_SECONDS * self._format.timescale:
            yuv.pict_type, self._key_at = PictureType.I, pts
        yield from self._packets(yuv)
        self.last_pts = pts
        self.frames += 1

    def finish(self) -> Iterator[Packet[Any]]:
        """What the encoder holds back. Raises av.FFmpegError."""
        return self._packets(None)

    def _packets(self, frame: av.VideoFrame | None) -> Iterator[Packet[Any]]:
        for packet in self._stream.encode(frame):
            packet.duration = packet.duration or self._format.tick_per_frame  # else the last one has none
            yield packet

    def _add_to(self, container: OutputContainer, encoder: Encoder) -> VideoStream:
        format_ = self._format
        stream = container.add_stream(encoder.name, rate=format_.rate, options=dict(encoder.options))
        assert isinstance(stream, VideoStream)
        width, height = format_.size
        stream.width, stream.height = width, height
        # 4:2:0 shares colour between 2x2 pixels, and libx264 refuses it for odd sizes. Full colour
        # resolution keeps the size, at the price that some hardware decoders do not play it.
        stream.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, format_.timescale)
        context.sample_aspect_ratio = format_.pixel_aspect
        context.gop_size = round(_KEY_SECONDS * max(format_.rate, Fraction(25)))
        # libx264 would start 1.5 threads per core, for every stream; four keep up with any camera.
        context.thread_count = min(4, os.cpu_count() or 1)
        context.color_range = _LIMITED
        context.colorspace = _BT709 if self._colours == Colorspace.ITU709 else _SMPTE170M
        context.color_primaries = context.color_trc = _BT709
        return stream


def _colours(width: int, height: int) -> Colorspace:
    """BT.709 for HD, BT.601 below: so they are read, too, where nothing tells the colours."""
    return Colorspace.ITU709 if height >= 720 or width >= 1280 else Colorspace.ITU601


def _rate(fps: float | None) -> Fraction:
    """Nominal rate for the encoder: what a container declares may be its clock's rate, not the pictures'."""
    plausible = fps is not None and 0 < fps <= _MAX_FPS
    return Fraction(fps if fps is not None and plausible else 25).limit_denominator(1001 * 60)
