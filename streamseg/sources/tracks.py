"""Which tracks of an open source can be decoded, and whether it can be opened again."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from streamseg.packets import TILE, has_decoder, main_pictures
from streamseg.sources.integrity import ReadError
from streamseg.sources.source import Source

WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


def picture_track(container: InputContainer) -> VideoStream | None:
    """The track of pictures that is meant; None if there is none.

    Raises ReadError where no decoder can make its pictures whole.
    """
    pictures = main_pictures(container)
    tracks = [track for track in container.streams.video if not track.disposition & Disposition.attached_pic]
    if pictures is None and any(track.disposition & TILE for track in tracks):
        raise ReadError(f"a photo that is stored in {len(tracks)} tiles cannot be read; convert it to JPEG")
    if pictures is None and tracks:
        raise ReadError("its video has a format that there is no decoder for; convert it to H.264")
    return pictures


def decoder_for(track: VideoStream) -> VideoCodecContext:
    """What decodes a track: FFmpeg's own decoders of VP8 and VP9 know nothing of transparency."""
    own = track.codec_context
    tags = {key.lower(): value for key, value in track.metadata.items()}
    if tags.get("alpha_mode") != "1" or own.name not in WITH_ALPHA:
        return own
    decoder = CodecContext.create(WITH_ALPHA[own.name], "r")
    assert isinstance(decoder, VideoCodecContext)
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
