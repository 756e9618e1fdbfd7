"""The sound of a recorded file, copied into its overlay video without encoding it again."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from streamseg.errors import mask_password
from streamseg.types import StreamInfo

logger = logging.getLogger(__name__)

_TIMEOUT = 10.0
"""Seconds: a web server that stalls must not hold up the pictures for ever."""
# What mp4 can hold and players play.
_CODECS = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "mp2", "opus"})


@dataclass(slots=True)
class _Track:
    target: AudioStream
    offset: int
    """Start of the selected part in ticks of the source's stream."""
    end: int | None
    unwrap: BitStreamFilterContext | None
    """Takes off the header that each AAC packet has in MPEG-TS, which mp4 must not have."""


class AudioCopy:
    """Reads the audio packets of a recorded file a second time, in step with the video.

    A part of the file starts with the first packet that begins in it. No error of the audio stops
    the video: it is logged, and the sound ends there.
    """

    def __init__(self, info: StreamInfo) -> None:
        self._info = info
        self._source: InputContainer | None = None
        self._tracks: dict[int, _Track] = {}
        self._finished: set[int] = set()
        self._packets: Iterator[Packet[Stream]] = iter(())
        self._next: Packet[Stream] | None = None

    def attach(self, container: OutputContainer) -> None:
        """Add an audio track to ``container`` for each one of the source that mp4 can hold."""
        self._container = container
        try:
            # Without the scheme FFmpeg takes "10:30.mp4" for a URL; a server that stalls is given up.
            local = "://" not in self._info.url
            url = f"file:{self._info.url}" if local else self._info.url
            self._source = av.open(url, timeout=_TIMEOUT, metadata_errors="replace")
            streams = [s for s in self._source.streams.audio if self._add_track(container, s)]
            if streams:
                if self._info.start > 0:
                    self._source.seek(int(self._info.start * av.time_base))
                self._packets = self._source.demux(streams)
                self._advance()
        except (av.FFmpegError, OSError) as error:
            self._give_up(error)

    def copy_until(self, time: Fraction | None) -> None:
        """Copy packets up to ``time`` (seconds in the output), None for all."""
        while (packet := self._next) is not None:
            track = self._tracks[packet.stream.index]
            pts = packet.pts
            if pts is None or packet.time_base is None or pts < track.offset:
                self._advance()
                continue
            if track.end is not None and pts >= track.end:
                self._finish_track(packet.stream.index)
                continue
            if time is not None and (pts - track.offset) * packet.time_base > time:
                return
            for ready in track.unwrap.filter(packet) if track.unwrap else [packet]:
                ready.pts = ready.dts = pts - track.offset
                ready.stream = track.target
                self._container.mux(ready)
            self._advance()

    def _finish_track(self, index: int) -> None:
        """A track has all of its part; the rest of the file is not read once all have."""
        self._finished.add(index)
        if self._finished >= self._tracks.keys():
            self.close()
        else:
            self._advance()

    def close(self) -> None:
        """Let go of the source."""
        self._next = None
        if self._source is not None:
            self._source.close()
            self._source = None

    def _add_track(self, container: OutputContainer, stream: AudioStream) -> bool:
        codec = stream.codec_context.codec.canonical_name
        if codec not in _CODECS:
            logger.warning(
                "stream %s: its %s audio cannot be copied into an mp4 file, left out",
                self._info.stream,
                codec,
            )
            return False
        assert stream.time_base is not None
        start, end = self._info.start, self._info.end
        target = container.add_stream_from_template(stream)
        wrapped = codec == "aac" and not stream.codec_context.extradata
        self._tracks[stream.index] = _Track(
            target,
            round(Fraction(start) / stream.time_base),
            None if end is None else round(Fraction(end) / stream.time_base),
            BitStreamFilterContext("aac_adtstoasc", stream) if wrapped else None,
        )
        return True

    def _advance(self) -> None:
        """Go to the next packet; the empty ones at the end of the file are none."""
        try:
            self._next = next((p for p in self._packets if p.size), None)
        except (av.FFmpegError, OSError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self.close()
        logger.warning(
            "stream %s: no more audio, %s",
            self._info.stream,
            mask_password(f"{type(error).__name__}: {error}"),
        )
