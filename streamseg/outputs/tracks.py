"""One track of sound on its way into an mp4 file: copied where mp4 can hold it, else encoded as AAC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, TypeAlias

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.filter import Graph
from av.packet import Packet

COPIED = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "mp2", "opus"})
"""What mp4 can hold and players play."""
AAC_RATES = frozenset({96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000})
AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}
"""By number of channels; others are mixed to stereo."""
MAX_SILENCE = 10
"""Seconds of a gap that are encoded as silence; a longer one stays a gap, or hours would be encoded."""
AAC_FRAME = 1024
"""Samples of each channel in a packet."""
Sound: TypeAlias = "Packet[AudioStream]"


class AudioTrack(Protocol):
    """Takes the packets of the source, in order; gives those that the file is to have."""

    @property
    def moved(self) -> bool:
        """Whether a packet had to be put at another time than its own."""

    def take(self, packet: Sound, seconds: Fraction) -> Iterator[Sound]:
        """A packet that is heard at ``seconds`` in the file. Raises av.FFmpegError."""

    def rest(self) -> Iterator[Sound]:
        """What was held back. Raises av.FFmpegError."""


def add_track(container: OutputContainer, source: AudioStream) -> AudioTrack:
    """Give ``container`` a track for one of the source. Raises av.FFmpegError or ValueError."""
    if source.codec_context.codec.canonical_name in COPIED:
        return CopiedTrack(container, source)
    return EncodedTrack(container, source)


@dataclass(slots=True)
class Placer:
    """Where in the file a track's next packet goes, in ticks: mp4 has no two packets at one time."""

    last: int | None = None
    moved: bool = False
    """Whether a packet was put at another time than its own."""

    def place(self, ticks: int, duration: int) -> int | None:
        """``ticks``; right behind the last packet if it lies on that one; None if it lies before it."""
        if self.last is not None and ticks <= self.last:
            self.moved = True
            if self.last - ticks >= max(duration, 1):
                return None
            ticks = self.last + 1
        self.last = ticks
        return ticks


class CopiedTrack:
    """The packets as they are, at the times of the file."""

    def __init__(self, container: OutputContainer, source: AudioStream) -> None:
        self._target = container.add_stream_from_template(source)
        self._rate = source.codec_context.sample_rate or 48_000
        self._placer = Placer()
        codec = source.codec_context
        # In MPEG-TS each AAC packet has a header, which mp4 must not have.
        wrapped = codec.codec.canonical_name == "aac" and not codec.extradata
        self._unwrap = BitStreamFilterContext("aac_adtstoasc", source) if wrapped else None

    @property
    def moved(self) -> bool:
        """Whether a packet had to be put at another time than its own."""
        return self._placer.moved

    def take(self, packet: Sound, seconds: Fraction) -> Iterator[Sound]:
        """The packet, unless it lies before the one that came last."""
        duration = round((packet.duration or 0) * (packet.time_base or 0) * self._rate)
        ticks = self._placer.place(round(seconds * self._rate), duration)
        if ticks is None:
            return
        for ready in self._unwrap.filter(packet) if self._unwrap else [packet]:
            ready.pts = ready.dts = ticks
            ready.duration, ready.time_base = duration, Fraction(1, self._rate)
            ready.stream = self._target
            yield ready

    def rest(self) -> Iterator[Sound]:
        """Nothing: no packet is held back."""
        return iter(())


class EncodedTrack:
    """The sound decoded, brought to a rate that AAC has, and encoded; gaps become silence."""

    moved = False

    def __init__(self, container: OutputContainer, source: AudioStream) -> None:
        rate = source.codec_context.sample_rate
        self._rate = rate if rate in AAC_RATES else 48_000
        self._layout = AAC_LAYOUTS.get(source.codec_context.channels, "stereo")
        self._target = container.add_stream("aac", rate=self._rate, layout=self._layout)
        self._graph: Graph | None = None
        self._reached = Fraction()

    def take(self, packet: Sound, seconds: Fraction) -> Iterator[Sound]:
        """The AAC packets that are full by now; a packet that cannot be decoded is a gap."""
        assert packet.time_base is not None
        if abs(seconds - self._reached) > MAX_SILENCE:
            if seconds < self._reached:
                return
            yield from self._filtered()
        self._reached = max(seconds, self._reached)
        packet.pts = packet.dts = round(seconds / packet.time_base)
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            return
        for frame in frames:
            assert isinstance(frame, AudioFrame)
            self._graph = self._graph or self._resampler(frame, seconds)
            self._graph.push(frame)
            yield from self._encoded(self._graph)

    def rest(self) -> Iterator[Sound]:
        """What the filter and the encoder hold back."""
        begun = self._graph is not None
        yield from self._filtered()
        if begun:
            yield from self._target.encode(None)

    def _filtered(self) -> Iterator[Sound]:
        """What the filter holds back; the next sound gets a new one."""
        graph, self._graph = self._graph, None
        if graph is not None:
            graph.push(None)
            yield from self._encoded(graph)

    def _resampler(self, first: AudioFrame, seconds: Fraction) -> Graph:
        graph = Graph()
        begin = 0 if seconds <= MAX_SILENCE else round(seconds * first.sample_rate)
        source = graph.add_abuffer(
            sample_rate=first.sample_rate,
            format=first.format,
            layout=first.layout,
            time_base=first.time_base,
        )
        wanted = f"sample_fmts=fltp:sample_rates={self._rate}:channel_layouts={self._layout}"
        graph.link_nodes(
            source,
            # Time stamps count, not samples.
            graph.add("aresample", f"async=1:first_pts={begin}"),
            graph.add("aformat", wanted),
            graph.add("asetnsamples", f"n={AAC_FRAME}:p=0"),
            graph.add("abuffersink"),
        ).configure()
        return graph

    def _encoded(self, graph: Graph) -> Iterator[Sound]:
        while True:
            try:
                frame = graph.pull()
            except (BlockingIOError, EOFError):
                return
            assert isinstance(frame, AudioFrame)
            yield from self._target.encode(frame)
