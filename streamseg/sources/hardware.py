"""Decoding on a graphics device, where there is one; the processor goes on where it is missing or refuses.

FFmpeg's own decoders hand the work to an NVIDIA device ("cuda"). For Intel's ("qsv") there are decoders of
their own, which know nothing of what the container says of the pictures. Frames come back to main memory.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import av
from av import CodecContext, Packet
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamseg.sources.tracks import decoder_for

Decode = Literal["auto", "cpu", "cuda", "qsv"]

AUTO: Decode = "cpu"
"""What "auto" stands for. Every worker that decodes on a GPU holds a context there, and pixels travel to main
memory and back: no measurement says that this pays."""

_QSV_NAMES = {"mpeg2video": "mpeg2"}
"""Codecs whose decoder is not called CODEC_qsv."""


def accelerator(wanted: Decode) -> HWAccel | None:
    """What a container has to be opened with; None if the processor decodes, or nothing else can."""
    if _device(wanted) == "cuda" and _missing("cuda", "h264") is None:
        return HWAccel("cuda")
    return None


class Decoder:
    """Makes frames of the packets of a stream whose container was opened with :func:`accelerator`."""

    def __init__(self, stream: VideoStream, wanted: Decode) -> None:
        """``wanted``: where the user wants it to be done."""
        self.fallback: str | None = None
        """Why the processor decodes although another device was wanted; known with the first frame."""
        self._software = self._used = decoder_for(stream)
        self._tried: VideoCodecContext | None = None
        self._held: list[VideoFrame] = []
        codec = stream.codec.canonical_name
        match _device(wanted):
            case "cuda" if not self._software.is_hwaccel:
                self._stay("cuda", _missing("cuda", "h264") or f"it does not decode {codec}")
            case "qsv":
                self._try_qsv(f"{_QSV_NAMES.get(codec, codec)}_qsv")

    def decode(self, packet: Packet[Any] | None) -> list[VideoFrame]:
        """The frames that come out when ``packet`` goes in; None: those held back. Raises av.FFmpegError."""
        return self._used.decode(packet) if self._tried is None else self._compare(self._tried, packet)

    def flush(self) -> None:
        """After a seek: forget what went in before."""
        for context in (self._software, self._used, self._tried):
            if context is not None:
                context.flush_buffers()
        self._held = []

    def _try_qsv(self, name: str) -> None:
        if reason := _missing("qsv", name):
            self._stay("qsv", reason)
            return
        self._tried = qsv_context(name)
        self._tried.extradata = self._software.extradata

    def _compare(self, tried: VideoCodecContext, packet: Packet[Any] | None) -> list[VideoFrame]:
        """Decode twice until the processor's first frame tells whether the other decoder's will do."""
        try:
            self._held += tried.decode(packet)
        except av.FFmpegError as error:
            self._stay("qsv", f"it refuses this video ({error.strerror})")
        frames = self._software.decode(packet)
        if frames and self._tried is not None:
            if frames[0].side_data.get("DISPLAYMATRIX") is not None:
                self._stay("qsv", "it does not turn pictures")
            else:
                self._used, self._tried = tried, None
                frames, self._held = self._held, []
        return frames

    def _stay(self, device: str, reason: str) -> None:
        self._tried, self._held = None, []
        self.fallback = f"decode: {device} cannot be used ({reason}), the CPU decodes"


def qsv_context(name: str) -> VideoCodecContext:
    """An Intel decoder, by its name in FFmpeg. Raises av.FFmpegError or ValueError if it cannot be had."""
    context = CodecContext.create(name, "r", hwaccel=HWAccel("qsv"))
    assert isinstance(context, VideoCodecContext)
    if not context.is_hwaccel:
        raise ValueError("no such device can be opened")
    return context


def _device(wanted: Decode) -> Decode:
    return AUTO if wanted == "auto" else wanted


@cache
def _missing(device: Decode, decoder: str) -> str | None:
    """Why a decoder cannot work on a device; None if it can. Asked once: a device takes a while to open."""
    try:
        if device == "qsv":
            qsv_context(decoder)
        else:
            CodecContext.create(decoder, "r", hwaccel=HWAccel(device))
    except av.FFmpegError as error:
        return f"no such device can be opened: {error.strerror}"
    except ValueError as error:
        return str(error)
    return None
