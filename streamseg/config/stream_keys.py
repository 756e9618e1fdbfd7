"""The keys of a stream, its zones and its lines."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from streamseg.config.values import Score, Section, StreamId, Text, without_nul

Point = tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]]
"""x, y: fractions of the picture, or pixels of the source if any number of the shape is above 1."""
Polygon = Annotated[tuple[Point, ...], Field(min_length=3)]


def _polygons(value: Any) -> Any:
    """One polygon may be given where several are meant."""
    one = isinstance(value, list | tuple) and value and _is_point(value[0])
    return [value] if one else value


def _is_point(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and not isinstance(value[0], list | tuple)


Polygons = Annotated[tuple[Polygon, ...], BeforeValidator(_polygons)]
PlaceName = Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]
"""Name of a zone or line: letters and digits of any script, _ and -."""


class _Passed(Section):
    """What zones and lines have in common."""

    classes: tuple[str, ...] | None = None
    """Objects of these classes; None of all."""
    anchor: Literal["foot", "centre"] = "foot"
    """The point of an object that is looked at: where its mask touches the ground, or the mask's centroid."""
    inertia: Annotated[int, Field(ge=1, le=1000)] = 3
    """Frames in a row until a change counts: flicker is none."""


class ZoneConfig(_Passed):
    """A part of the picture that objects enter and leave."""

    polygon: Polygon
    """Its corners."""
    dwell: Annotated[float, Field(gt=0)] | None = None
    """Seconds in the zone after which the event ``dwell`` is told, once a visit; None never tells it."""


class LineConfig(_Passed):
    """A line that objects cross: in is from its left to its right, seen along it."""

    points: Annotated[tuple[Point, ...], Field(min_length=2, max_length=2)]
    """Where the line begins and ends."""

    @model_validator(mode="after")
    def _has_length(self) -> Self:
        if self.points[0] == self.points[1]:
            raise ValueError("a line needs two different points")
        return self


class StreamConfig(Section):
    """One source."""

    url: Annotated[str, AfterValidator(without_nul), Field(min_length=1, repr=False)]
    """File, folder, glob, URL or /dev/videoN. A name that is not UTF-8 is one file's fault, not the run's."""
    id: StreamId | None = None
    """Made from the source if not given."""
    user: Text | None = None
    """Of a URL that has none; any characters but a colon."""
    password: Annotated[Text | None, Field(repr=False)] = None
    """Of a URL that has none; any characters, as they are."""
    live: bool | None = None
    """Whether it has no end, as a camera; None to find out."""
    recursive: bool = False
    """Folders only: take what lies in their folders, too."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How RTSP carries the video."""
    decode: Literal["auto", "cpu", "cuda", "qsv"] = "auto"
    """Where it is decoded: on the processor, an NVIDIA or an Intel device; without that on the processor."""
    start: Annotated[float, Field(ge=0)] = 0.0
    """Seconds; recorded files only, like ``end`` and ``stride``."""
    end: Annotated[float, Field(gt=0)] | None = None
    """Seconds; None for the end of the file."""
    stride: Annotated[int, Field(ge=1, le=1 << 31)] = 1
    """Every Nth frame."""
    deinterlace: Literal["auto", "off"] = "auto"
    """Whether interlaced pictures are made whole; auto: those that say that they are interlaced."""
    stalled_after: Annotated[float, Field(gt=0)] | None = None
    """Live sources only, like ``reconnect_attempts``: seconds without a frame; None for 5, HLS 30."""
    reconnect_attempts: Annotated[int, Field(ge=0)] | None = None
    """New attempts in a row that may fail before the stream is given up; None for any number."""
    damaged: Literal["keep", "drop"] = "keep"
    """Live sources only: what happens to frames that were patched up, or before which packets were lost."""
    max_fps: Annotated[float, Field(gt=0)] | None = None
    """Live sources only: so many frames a second at most, evenly spaced; None takes all that come."""
    first_epoch: Annotated[int, Field(ge=0)] | None = None
    """For a camera that several engines read in turn: the first epoch of this engine. Redis refuses results
    of an engine whose first epoch is lower. None: no other engine publishes this stream."""
    classes: tuple[str, ...] | None = None
    """Class names to keep of this stream, among those of ``model.classes``; None keeps all."""
    score: Score | None = None
    """Lowest score of this stream, if it is to be above ``model.score``."""
    region: Polygons = ()
    """Only objects that lie in it by half or more."""
    ignore: Polygons = ()
    """Objects that lie in one of these by half or more are left out."""
    zones: dict[PlaceName, ZoneConfig] = Field(default={})
    """By name: parts of the picture that objects enter and leave."""
    lines: dict[PlaceName, LineConfig] = Field(default={})
    """By name: lines that objects cross."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if both := sorted(self.zones.keys() & self.lines.keys()):
            raise ValueError(f"zones and lines need different names, got {', '.join(both)} twice")
        return self
