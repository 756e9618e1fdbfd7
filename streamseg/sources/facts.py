"""What is known of an open source before it is read."""

from __future__ import annotations

import math
from fractions import Fraction

from av.container import InputContainer
from av.video.stream import VideoStream

from streamseg.packets import has_decoder
from streamseg.sources.integrity import MICROSECONDS
from streamseg.sources.pace import ARRIVAL_TIME_BASE
from streamseg.sources.source import Source
from streamseg.sources.tracks import can_be_reread

SOUND_AHEAD = 1.0
"""Seconds of sound before the first picture that are left out: broadcasts are cut anywhere."""
MAX_ASPECT = 10
"""Of a pixel's sides: what goes beyond is an error."""


class SourceFacts:
    """What container and pictures of an open source say of themselves."""

    def __init__(
        self, source: Source, container: InputContainer, stream: VideoStream, *, untimed: bool = False
    ) -> None:
        """``untimed``: FFmpeg makes its times up, frames are given those of their arrival."""
        self._untimed = untimed
        self._source, self._container, self._stream = source, container, stream

    @property
    def time_base(self) -> Fraction:
        """Seconds per tick."""
        if self._untimed:
            return ARRIVAL_TIME_BASE
        return self._stream.time_base or Fraction(1, MICROSECONDS)

    @property
    def origin(self) -> float:
        """Presentation time, in seconds, at which the video of a recording begins."""
        return float(self.first_tick * self.time_base)

    def begins(self, ticks: int) -> float:
        """Seconds on the stream's clock that are second 0 for the viewer; the first picture is at ``ticks``.

        It is that picture, unless sound that comes well before it is meant to be heard.
        """
        first, start = float(ticks * self.time_base), self._container.start_time
        earliest = first if start is None else min(first, start / MICROSECONDS)
        return first if first - earliest < SOUND_AHEAD else earliest

    def pixel_aspect(self, *, turned: bool) -> tuple[int, int]:
        """Width and height of a pixel as it is shown; ``turned``: rows became columns."""
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        if not aspect or not 1 / MAX_ASPECT <= aspect <= MAX_ASPECT:
            return 1, 1
        return (1 / aspect if turned else aspect).as_integer_ratio()

    @property
    def reread(self) -> bool:
        """Whether the source can be opened a second time."""
        return can_be_reread(self._source, self._container)

    @property
    def fps(self) -> float | None:
        """Nominal frames per second, None when unknown."""
        rate = None if self._untimed else self._stream.average_rate
        return float(rate) if rate else None

    @property
    def has_audio(self) -> bool:
        """Whether there is sound as well."""
        return any(has_decoder(track) for track in self._container.streams.audio)

    @property
    def frame_count(self) -> int | None:
        """Selected frames to expect (an estimate), None when unknown."""
        frames = None if self._source.live else self._frames_in_part()
        return None if frames is None else math.ceil(frames / self._source.stride)

    def _frames_in_part(self) -> int | None:
        start, end = self._source.start, self._source.end
        if not start and end is None and self._stream.frames:
            return self._stream.frames
        seconds = self._duration()
        if seconds is None or self.fps is None:
            return None
        part = (seconds if end is None else min(end, seconds)) - start
        return max(0, round(part * self.fps))

    def _duration(self) -> float | None:
        if self._stream.duration is not None:
            return float(self._stream.duration * self.time_base)
        total = self._container.duration
        return None if total is None else total / MICROSECONDS

    @property
    def first_tick(self) -> int:
        """Presentation time at which the video of a recording begins."""
        return self._stream.start_time or 0

    @property
    def step(self) -> int:
        """Nominal duration of a picture in ticks, at least 1."""
        rate = self._stream.average_rate or self._stream.guessed_rate or Fraction(25)
        return max(1, round(1 / (rate * self.time_base)))
