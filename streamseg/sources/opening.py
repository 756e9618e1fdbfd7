"""Opening one source with PyAV. Runs in the decode worker."""

from __future__ import annotations

import time

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from streamseg.sources.faults import ReadError, explain, refusal
from streamseg.sources.source import Source

MAX_PIXELS = 1 << 26
"""In a picture: twice what 8K has. A damaged header can ask for any amount of memory."""
TEXT_ART = frozenset({"ansi", "bintext", "xbin", "idf"})
"""FFmpeg paints text files; nobody means that as a video."""
LIVE_OPTIONS = {"analyzeduration": "500000"}
"""Microseconds: opens a camera in 0.6 s instead of 2. (``fflags=nobuffer`` would throw away what was
analysed, the key frame with it, and cost a wait for the next one: 10 s at a 10 s key frame distance.)"""


def open_source(source: Source) -> tuple[InputContainer, VideoStream]:
    """Open a source and find its video. Raises ReadError."""
    live, began = source.live, time.monotonic()
    try:
        container = _open_container(source)
    except (av.FFmpegError, OSError) as error:
        if live and time.monotonic() - began >= source.open_timeout:
            # FFmpeg calls it invalid data when a camera takes the connection and says nothing.
            raise ReadError("no answer in time") from None
        raise ReadError(explain(error, live=live), refusal(error) if live else None) from None
    try:
        return container, _video_stream(container, source)
    except ReadError:
        container.close()
        raise


def _open_container(source: Source) -> InputContainer:
    """Open the container. Raises av.FFmpegError or OSError."""
    if "://" not in source.url:
        if source.live:
            return av.open(source.url, "r", format="v4l2")
        # Without the scheme FFmpeg takes "10:30.mp4" for a URL.
        return av.open(f"file:{source.url}", "r", metadata_errors="replace")
    options = dict(LIVE_OPTIONS) if source.live else {}
    if source.url.lower().startswith("rtsp"):
        options["rtsp_transport"] = source.transport
    # A read time-out fires after twice the value set. The silence of a camera is the parent's to judge,
    # who also sees a decoder that hangs; FFmpeg's time-out stands behind it.
    timeout = (source.open_timeout, source.read_timeout / (1 if source.live else 2))
    return av.open(source.url, "r", options=options, timeout=timeout, metadata_errors="replace")


def _video_stream(container: InputContainer, source: Source) -> VideoStream:
    stream = container.streams.best("video")
    if (
        not isinstance(stream, VideoStream)
        or stream.disposition & Disposition.attached_pic
        or stream.codec_context.name in TEXT_ART
    ):
        raise ReadError("there is no video in it")
    size = (stream.codec_context.width, stream.codec_context.height)
    if size[0] * size[1] > MAX_PIXELS:
        raise ReadError(
            f"pictures of {size[0]}x{size[1]} are too large, at most {MAX_PIXELS >> 20} Mi pixels"
        )
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    if source.live:
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all  # or HLS would fetch all qualities of the stream
    else:
        # Decoding frames in parallel is the fastest (305 against 217 fps at 1080p) but holds some back.
        stream.thread_type = "AUTO"
    return stream
