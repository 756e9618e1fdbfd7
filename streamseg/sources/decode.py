"""Reading one source with PyAV: seeking, decoding, selecting. Runs in the decode worker."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from typing import Any

import av
from av import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamseg.clock import FrameClock, Stamps
from streamseg.packets import PacketClock
from streamseg.sources.damage import LiveDamage, listen_to
from streamseg.sources.deinterlace import deinterlaced
from streamseg.sources.facts import SourceFacts
from streamseg.sources.hardware import Decoder
from streamseg.sources.integrity import (
    PATIENCE,
    CatchUp,
    DamageCounter,
    ReadError,
    TruncationCheck,
    explain,
)
from streamseg.sources.liveness import is_untimed
from streamseg.sources.opening import open_source
from streamseg.sources.pace import ArrivalTimer, BurstPacer
from streamseg.sources.source import Source
from streamseg.sources.tracks import unreadable_tracks

SEEK_MARGINS = (0.5, 10.0)
"""Seconds to seek ahead of the start: indices tell decoding times, which B-frames keep from display times."""
UNTIMED_AT_OPENING = 5
"""Frames of a live source left out until the first timestamp is known (RTSP: one, before RTCP)."""


class VideoReader:
    """An open source; a context manager. Raises ReadError when the source cannot be opened or read on."""

    def __init__(
        self,
        source: Source,
        *,
        alive: Callable[[], None] = lambda: None,
        waiting: Callable[[bool], None] = lambda _: None,
        note: Callable[[str], None] = lambda _: None,
        patience: float = PATIENCE,
    ) -> None:
        """Open. ``alive`` is called at every decoded frame, whether it is selected or not, ``waiting`` at
        every packet before the first one, ``note`` with what the user should know; frames of a camera that
        sends faster than it is read for ``patience`` seconds are dropped."""
        self._source, self._patience = source, patience
        self._alive, self._waiting, self._note = alive, waiting, note
        self.last_frame: VideoFrame | None = None
        """The last frame decoded, None before the first."""
        self.last_damaged = False
        """Whether it is a live one that was patched up, or before which packets were lost."""
        self._open()

    def _open(self) -> None:
        self._container, self._stream, self._source = open_source(self._source)
        self._arrivals = ArrivalTimer() if self.live and is_untimed(self._container) else None
        self.facts = SourceFacts(
            self._source, self._container, self._stream, untimed=self._arrivals is not None
        )
        """What is known of the source before it is read."""
        self._decoder = Decoder(self._stream, self._source.decode)
        self.live_damage = LiveDamage(listen_to(self.live), segments=self._in_segments)
        if not self.live and (count := unreadable_tracks(self._container)):
            self._note(f"left out {count} of its tracks, for which there is no decoder")
        self._reset(from_start=True)

    @property
    def _in_segments(self) -> bool:
        """Whether it comes in segments (HLS), each of which may be read in one go."""
        return self._container.format.name == "hls"

    @property
    def live(self) -> bool:
        """Whether it is read as a live source."""
        return bool(self._source.live)

    @property
    def fallback(self) -> str | None:
        """Why the processor decodes although another device was wanted; known with the first frame."""
        return self._decoder.fallback

    def _reset(self, *, from_start: bool) -> None:
        """Begin to count: at opening and after every seek."""
        self._truncation = TruncationCheck(self._container, self._stream, from_start=from_start)
        self._clock = PacketClock(self._container, self._stream, live=self.live)
        self._frame_clock = FrameClock(origin=self.facts.first_tick, step=self.facts.step)
        self._decoded = self._dropped = 0
        self._seconds = 0.0
        self.damage = DamageCounter()
        self._packet_error = ""

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def selected(self) -> Iterator[tuple[int, VideoFrame, int]]:
        """The frames to be processed: number, frame, presentation time in ticks.

        Of a recording these are the frames from ``start`` to ``end``, every ``stride``-th of them;
        numbers count from 0 at ``start`` and go on over the frames left out. Of a live source all.

        Raises ReadError when reading fails, and at the end of a recording that was not complete.
        """
        if self.live:
            for index, (frame, ticks) in enumerate(self._frames()):
                yield index + self._dropped, frame, ticks
            raise ReadError("the stream ended")
        reached_end = yield from self._part()
        self._check(whole=reached_end)

    def _part(self) -> Generator[tuple[int, VideoFrame, int], None, bool]:
        """The selected frames of a recording; returns whether the file was read to its end."""
        first = self._ticks_at(self._source.start)
        last = math.inf if self._source.end is None else self._ticks_at(self._source.end)
        index = 0
        for frame, ticks in self._frames_from(first):
            if ticks >= last:
                return False
            if ticks >= first:
                if index % self._source.stride == 0:
                    yield index, frame, ticks
                index += 1
        return True

    def _ticks_at(self, seconds: float) -> int:
        # The decimal text is exact where the float is not: 2.04 s is frame 51 at 25 fps.
        return self.facts.first_tick + math.ceil(Fraction(str(seconds)) / self.facts.time_base)

    def _frames_from(self, first: int) -> Iterator[tuple[VideoFrame, int]]:
        """All frames from a key frame before ``first`` on."""
        sought = False
        for margin in SEEK_MARGINS if self.facts.reread else ():
            target = first - math.ceil(Fraction(margin) / self.facts.time_base)
            if target <= self.facts.first_tick or not self._seek(target):
                break
            sought = True
            frames = self._frames()
            opening = next(frames, None)
            if opening is not None and opening[1] <= first:
                yield opening
                yield from frames
                return
        if sought:
            # Not by seeking to the beginning: in a transport stream that may end behind its first key frame.
            self._container.close()
            self._open()
        yield from self._frames()

    def _seek(self, ticks: int) -> bool:
        try:
            self._container.seek(ticks, stream=self._stream)
        except (av.FFmpegError, OSError):
            return False  # the format cannot seek: reading from the beginning is slower, but right
        self._decoder.flush()
        self._reset(from_start=False)
        return True

    def _frames(self) -> Iterator[tuple[VideoFrame, int]]:
        """Every frame from here on with its time, the ones the decoder holds back included."""
        for frame, ticks in self._deinterlaced(self._timed_frames()):
            self._alive()
            yield frame, ticks

    def _deinterlaced(self, frames: Iterator[tuple[VideoFrame, int]]) -> Iterator[tuple[VideoFrame, int]]:
        return deinterlaced(frames) if self._source.deinterlace == "auto" else frames

    def _timed_frames(self) -> Iterator[tuple[VideoFrame, int]]:
        for packet, stamps in self._packets():
            for frame in self._decode(packet, stamps):
                self._decoded += 1
                self.damage.came(frame)
                self.last_frame = frame
                self.last_damaged = self.live and self.live_damage.came(frame)
                if self._arrivals is not None:
                    yield frame, self._arrivals.ticks()
                    continue
                untimed = frame.pts is None and not self._frame_clock.started
                if self.live and untimed and self._decoded <= UNTIMED_AT_OPENING:
                    continue
                yield frame, self._frame_clock.ticks(frame.pts, frame.duration or 0)
            if not self._decoded:
                self._waiting(self.live)

    def _packets(self) -> Iterator[tuple[Packet[Any] | None, Stamps]]:
        """The packets to be decoded, and their times; None lets the decoder give what it holds back."""
        try:
            yield from self._live_packets() if self.live else self._recorded_packets()
        except (av.FFmpegError, OSError) as error:
            failure = error
        else:
            return
        if not self.live:
            yield None, Stamps(None, None, 0)
            # A server that closes to say that this was all looks to FFmpeg like one that failed.
            if isinstance(failure, OSError) and failure.errno == errno.EIO and not self._states_its_length:
                return
        raise ReadError(explain(failure, live=self.live))

    @property
    def _states_its_length(self) -> bool:
        return "://" not in self._source.url or self._container.size > 0

    def _recorded_packets(self) -> Iterator[tuple[Packet[Any], Stamps]]:
        # All streams are looked at: a long audio track explains a long duration.
        for packet in self._container.demux(*self._container.streams):
            self._truncation.watch(packet)
            ours = packet.stream.index == self._stream.index
            if ours or packet.stream.type == "audio":
                stamps = self._move(packet)
                if ours and not self._truncation.is_partial(packet):
                    yield packet, stamps

    def _live_packets(self) -> Iterator[tuple[Packet[Any], Stamps]]:
        segments = self._in_segments
        catch_up = CatchUp(patience=math.inf if segments else self._patience)
        pacer = BurstPacer()
        began = time.monotonic()
        for packet in self._container.demux(self._stream):
            waited = time.monotonic() - began
            stamps = self._move(packet)
            if segments:
                pacer.pace(_seconds(packet), waited=waited)
            if catch_up.wants(waited=waited, is_keyframe=packet.is_keyframe):
                yield packet, stamps
            else:
                self._dropped += 1
                self._alive()
            began = time.monotonic()

    def _move(self, packet: Packet[Any]) -> Stamps:
        """Put a packet on the clock that goes on."""
        jumps = self._clock.jumps
        stamps = self._clock.move(packet)
        if self._clock.jumps > jumps:
            self._note("its time stamps jump; they are moved so that time goes on")
        return stamps

    def _decode(self, packet: Packet[Any] | None, stamps: Stamps) -> list[VideoFrame]:
        if packet is not None and not self.live:
            self.damage.sent(packet)
        self._frame_clock.sent(stamps)
        began = time.monotonic()
        try:
            return self._decoder.decode(packet)
        except (av.FFmpegError, OSError) as error:
            self.damage.failed()
            self._frame_clock.failed(stamps)
            self._packet_error = explain(error)
            return []
        finally:
            self._seconds += time.monotonic() - began

    def take_seconds(self) -> float:
        """Seconds spent on decoding since this was asked last."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _check(self, *, whole: bool) -> None:
        """Raise ReadError if what was read of a recording is not all there is to it."""
        if whole:
            self.damage.ended()
        if not self._decoded:
            raise ReadError(f"no picture could be decoded: {self._packet_error or 'the file holds none'}")
        missing = self._truncation.missing() if whole else None
        if missing:
            raise ReadError(missing)


def _seconds(packet: Packet[VideoStream]) -> float | None:
    """When a packet is decoded, on the stream's clock."""
    ticks = packet.pts if packet.dts is None else packet.dts
    return None if ticks is None or packet.time_base is None else float(ticks * packet.time_base)
