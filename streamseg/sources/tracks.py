"""Which tracks of an open source can be decoded, and whether it can be opened again."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from streamseg.sources.integrity import ReadError
from streamseg.sources.source import Source

TILE = 1 << 19
"""FFmpeg's AV_DISPOSITION_DEPENDENT, which PyAV does not know: a track that is a part of something else."""
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def picture_track(container: InputContainer) -> VideoStream | None:
    """The track of pictures that is meant; None if there is none.

    Raises ReadError where no decoder can make its pictures whole.
    """
    tracks = [track for track in container.streams.video if not track.disposition & Disposition.attached_pic]
    if tracks and all(track.disposition & TILE for track in tracks):
        raise ReadError(f"a photo that is stored in {len(tracks)} tiles cannot be read; convert it to JPEG")
    readable = [track for track in tracks if has_decoder(track)]
    if tracks and not readable:
        raise ReadError("its video has a format that there is no decoder for; convert it to H.264")
    best = container.streams.best("video")
    return next((track for track in readable if best is not None and track.index == best.index), None) or next(
        iter(readable), None
    )


def has_decoder(track: Stream) -> bool:
    """Whether a track can be decoded."""
    return track.codec_context is not None


def decoder_for(track: VideoStream) -> CodecContext:
    """What decodes a track: FFmpeg's own decoders of VP8 and VP9 know nothing of transparency."""
    own: CodecContext = track.codec_context
    if track.metadata.get("alpha_mode") != "1" or own.name not in WITH_ALPHA:
        return own
    decoder = CodecContext.create(WITH_ALPHA[own.name], "r")
    decoder.extradata = own.extradata
    return decoder


def unreadable_tracks(container: InputContainer) -> int:
    """How many tracks of pictures or sound there is no decoder for."""
    tracks = [*container.streams.video, *container.streams.audio]
    return sum(not has_decoder(track) for track in tracks)


def can_be_reread(source: Source, container: InputContainer) -> bool:
    """Whether the source can be opened a second time: a file can, a pipe cannot.

    Of a server's answer that is so if its length is known: others are made as they are sent.
    """
    if source.live:
        return False
    if "://" in source.url:
        return container.size > 0
    with suppress(OSError):
        return stat.S_ISREG(os.stat(source.url).st_mode)
    return False
