"""The sound of a recorded file, on its way into the overlay video."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream

from streamseg.errors import mask_password
from streamseg.outputs.tracks import COPIED, AudioTrack, Sound, add_track
from streamseg.packets import PacketClock, has_decoder, main_pictures
from streamseg.types import StreamInfo

logger = logging.getLogger(__name__)

_TIMEOUT = 10.0
"""Seconds: a web server that stalls must not hold up the pictures for ever."""


class AudioReader:
    """Reads the sound of a recorded file a second time, in step with the video and on the same clock.

    A part of the file starts with the first packet that begins in it. No error of the sound stops the
    video: it is logged once, and the sound ends there.
    """

    def __init__(self, info: StreamInfo, *, begin: Fraction) -> None:
        """``begin``: seconds on the stream's clock that are second 0 of the video."""
        self._info, self._begin = info, begin
        self._end = None if info.end is None else Fraction(info.end)
        self._source: InputContainer | None = None
        self._tracks: dict[int, AudioTrack] = {}
        self._finished: set[int] = set()
        self._packets: Iterator[tuple[Packet[Stream], Fraction]] = iter(())
        self._next: tuple[Packet[Stream], Fraction] | None = None
        self._said = False

    def attach(self, container: OutputContainer) -> None:
        """Add a track to ``container`` for each one of the source that can be read."""
        try:
            # Without the scheme FFmpeg takes "10:30.mp4" for a URL; a server that stalls is given up.
            local = "://" not in self._info.url
            url = f"file:{self._info.url}" if local else self._info.url
            self._source = av.open(url, timeout=_TIMEOUT, metadata_errors="replace")
            for stream in filter(has_decoder, self._source.streams.audio):
                self._add_track(container, stream)
            if self._tracks:
                if self._info.start > 0:
                    self._source.seek(int(self._info.start * av.time_base))
                self._packets = self._moved_packets(self._source)
                self._advance()
        except Exception as error:  # noqa: BLE001  whatever is wrong with the sound: the pictures go on
            self.give_up(error)

    def until(self, time: Fraction | None) -> Iterator[Sound]:
        """The packets of the file up to ``time``, in seconds of the video; None for all."""
        try:
            yield from self._until(time)
        except Exception as error:  # noqa: BLE001  see attach
            self.give_up(error)

    def rest(self) -> Iterator[Sound]:
        """What the tracks still hold back."""
        try:
            yield from chain.from_iterable(track.rest() for track in self._tracks.values())
        except Exception as error:  # noqa: BLE001  see attach
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Go on without sound."""
        self.close()
        self._tracks.clear()
        self._warn(f"no more sound, {mask_password(f'{type(error).__name__}: {error}')}")

    def close(self) -> None:
        """Let go of the source."""
        self._next, self._packets = None, iter(())
        if self._source is not None:
            self._source.close()
            self._source = None

    def _add_track(self, container: OutputContainer, stream: AudioStream) -> None:
        codec = stream.codec_context.codec.canonical_name
        try:
            self._tracks[stream.index] = add_track(container, stream)
        except (av.FFmpegError, ValueError) as error:
            self._warn(f"its {codec} sound is left out, {error}")
            return
        if codec not in COPIED:
            logger.info("stream %s: its %s sound is encoded as AAC", self._info.stream, codec)

    def _moved_packets(self, source: InputContainer) -> Iterator[tuple[Packet[Stream], Fraction]]:
        """The packets of the tracks, and when they are heard on the stream's clock."""
        pictures = main_pictures(source)
        assert pictures is not None
        clock = PacketClock(source, pictures)
        # The clock has to see what it sees where the pictures are decoded.
        for packet in source.demux([pictures, *source.streams.audio]):
            stamps = clock.move(packet)
            ticks = stamps.dts if stamps.pts is None else stamps.pts
            if packet.stream.index in self._tracks and packet.size and ticks is not None:
                assert packet.time_base is not None
                yield packet, ticks * packet.time_base

    def _until(self, time: Fraction | None) -> Iterator[Sound]:
        while self._next is not None:
            packet, at = self._next
            seconds = at - self._begin
            if time is not None and seconds > time:
                return
            if self._end is not None and at >= self._end:
                self._finish_track(packet.stream.index)
                continue
            if seconds >= 0 and packet.stream.index not in self._finished:
                track = self._tracks[packet.stream.index]
                yield from track.take(packet, seconds)  # type: ignore[arg-type]  # it is one of sound
                self._look_at(track)
            self._advance()

    def _look_at(self, track: AudioTrack) -> None:
        if track.moved:
            self._warn("time stamps of its sound do not increase, moved or left out")

    def _finish_track(self, index: int) -> None:
        """A track has all of its part; the rest of the file is not read once all have."""
        self._finished.add(index)
        if self._finished >= self._tracks.keys():
            self.close()
        else:
            self._advance()

    def _advance(self) -> None:
        self._next = next(self._packets, None)

    def _warn(self, text: str) -> None:
        if not self._said:
            self._said = True
            logger.warning("stream %s: %s", self._info.stream, text)
