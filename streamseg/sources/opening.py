"""Opening one source with PyAV: how FFmpeg is told to, and which track is its video."""

from __future__ import annotations

import time
from dataclasses import replace

import av
from av.container import InputContainer
from av.stream import Discard
from av.video.stream import VideoStream

from streamseg.sources.damage import listen_while_opening
from streamseg.sources.hardware import accelerator
from streamseg.sources.integrity import ReadError, explain, refusal
from streamseg.sources.liveness import is_live_answer
from streamseg.sources.source import Source
from streamseg.sources.tracks import picture_track

MAX_PIXELS = 1 << 26
"""In a picture: twice what 8K has. A damaged header can ask for any amount of memory."""
TEXT_ART = frozenset({"ansi", "bintext", "xbin", "idf"})
"""FFmpeg paints text files; nobody means that as a video."""
LIVE_OPTIONS = {"analyzeduration": "500000"}
"""Microseconds: opens a camera in 0.6 s instead of 2. (``fflags=nobuffer`` would throw away what was
analysed, the key frame with it, and cost a wait for the next one: 10 s at a 10 s key frame distance.)"""
LIVE_WEB_OPTIONS = {"formatprobesize": "32768", "live_start_index": "-1"}
"""Bytes that tell JPEGs without a container: the usual mebibyte takes a small camera half a minute. And the
newest segment of an HLS playlist: the third newest, from which players begin, is a lag that stays."""


def open_source(source: Source) -> tuple[InputContainer, VideoStream, Source]:
    """Open a source and find its video; the source comes back with ``live`` decided. Raises ReadError."""
    container = _opened(source)
    if source.live is None:
        source = replace(source, live=is_live_answer(container))
        if not source.live:
            container.close()
            container = _opened(source)
    try:
        return container, _video_stream(container, source), source
    except ReadError:
        container.close()
        raise


def _opened(source: Source) -> InputContainer:
    live, began = not source.recorded, time.monotonic()
    listen_while_opening()
    try:
        return _open_container(source)
    except (av.FFmpegError, OSError) as error:
        if live and time.monotonic() - began >= source.open_timeout:
            # FFmpeg calls it invalid data when a camera takes the connection and sends nothing.
            raise ReadError("no answer in time") from None
        raise ReadError(explain(error, live=live), refusal(error) if live else None) from None


def _open_container(source: Source) -> InputContainer:
    """Open the container. Raises av.FFmpegError or OSError."""
    if "://" not in source.url:
        if source.url.startswith("/dev/video"):
            return av.open(source.url, "r", format="v4l2")
        # Without the scheme FFmpeg takes "10:30.mp4" for a URL.
        hwaccel = accelerator(source.decode)
        return av.open(f"file:{source.url}", "r", metadata_errors="replace", hwaccel=hwaccel)
    lively = source.live is not False
    options = dict(LIVE_OPTIONS) if lively else {}
    if source.url.lower().startswith("rtsp"):
        options["rtsp_transport"] = source.transport
    elif source.url.lower().startswith("http") and lively:
        options |= LIVE_WEB_OPTIONS
    # A read time-out fires after twice the value set. The parent process judges how long a camera may be
    # silent, for it also sees a decoder that hangs; FFmpeg's time-out stands behind it.
    timeout = (source.open_timeout, source.read_timeout / (1 if lively else 2))
    return av.open(
        source.url,
        "r",
        options=options,
        timeout=timeout,
        metadata_errors="replace",
        hwaccel=accelerator(source.decode),
    )


def _video_stream(container: InputContainer, source: Source) -> VideoStream:
    stream = picture_track(container)
    if stream is None or stream.codec_context.name in TEXT_ART:
        raise ReadError("there is no video in it")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > MAX_PIXELS:
        raise ReadError(f"pictures of {width}x{height} are too large, at most {MAX_PIXELS >> 20} Mi pixels")
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    if source.live:
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all  # or HLS would fetch all qualities of the stream
    else:
        # Decoding frames in parallel is the fastest (305 against 217 fps at 1080p) but holds some back.
        stream.thread_type = "AUTO"
    return stream
