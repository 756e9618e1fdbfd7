"""Whether what a web server sends is a camera or a recording: told from its answer, not from its name."""

from __future__ import annotations

from av.container import InputContainer

NO_TIMESTAMPS = 0x80
"""FFmpeg's AVFMT_NOTIMESTAMPS: what comes says nothing about time."""


def is_live_answer(container: InputContainer) -> bool:
    """Whether an opened URL has no end.

    It has one if the server states a length, a playlist is complete, or the head of the file says how long
    it is. JPEGs in parts (``multipart/x-mixed-replace``) are a camera whatever length it states.
    """
    formats = container.format.name.split(",")
    if "mpjpeg" in formats:
        return True
    if "hls" in formats:
        return not container.duration
    if container.size > 0:
        return False
    if "mp4" in formats:
        # A head that lists no frames belongs to fragments; the duration is that of those which came so far.
        return not any(stream.frames for stream in container.streams.video)
    return not container.duration


def is_untimed(container: InputContainer) -> bool:
    """Whether FFmpeg makes times up, at 25 frames/s, because the stream has none."""
    # One JPEG after the other is a pipe of images to FFmpeg, which it gives a rate as well.
    return bool(container.format.flags & NO_TIMESTAMPS) or container.format.name.endswith("_pipe")
