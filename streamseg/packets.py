"""Packets of an open source on one clock: the same whether pictures are decoded or sound is copied."""

from __future__ import annotations

from typing import Any

from av import Packet
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from streamseg.clock import JOINED_GAP, LONGEST_GAP, SourceClock, Stamps

TILE = 1 << 19
"""FFmpeg's AV_DISPOSITION_DEPENDENT, which PyAV does not know: a track that is a part of something else."""
CUT_AND_JOINED = 0x0200
"""FFmpeg's AVFMT_TS_DISCONT: in files of this format the clock may begin anew."""


def has_decoder(track: Stream) -> bool:
    """Whether a track can be decoded."""
    return track.codec_context is not None


def main_pictures(container: InputContainer) -> VideoStream | None:
    """The main one of the tracks of pictures that can be decoded; None if there is none."""
    readable = [
        track
        for track in container.streams.video
        if has_decoder(track) and not track.disposition & (Disposition.attached_pic | TILE)
    ]
    best = container.streams.best("video")
    chosen = [track for track in readable if best is not None and track.index == best.index]
    return next(iter(chosen or readable), None)


class PacketClock:
    """Gives the packets of a container the times of a :class:`SourceClock`.

    Two readings of one file give the same times if both pass the packets of the pictures and of all sound.
    """

    def __init__(self, container: InputContainer, pictures: VideoStream, *, live: bool = False) -> None:
        """``pictures`` is the track that is decoded."""
        joined = container.format.flags & CUT_AND_JOINED
        self._pictures = pictures.index
        self._clock = SourceClock(
            leader=pictures.index, longest_gap=JOINED_GAP if joined else LONGEST_GAP, live=live
        )
        # AVI holds no presentation times; what FFmpeg makes up is wrong where B-frames change the order.
        self._no_pts = container.format.name == "avi" and pictures.codec_context.has_b_frames

    @property
    def jumps(self) -> int:
        """How often the clock began anew so far."""
        return self._clock.jumps

    def move(self, packet: Packet[Any]) -> Stamps:
        """Put a packet on the clock that goes on; returns its times."""
        no_pts = self._no_pts and packet.stream.index == self._pictures
        stamps = Stamps(None if no_pts else packet.pts, packet.dts, packet.duration or 0)
        if packet.time_base is not None:
            stamps = self._clock.move(packet.stream.index, stamps, packet.time_base)
        packet.pts, packet.dts = stamps.pts, stamps.dts
        return stamps
