"""The keys of a run's configuration: what each means, and which values are allowed."""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from streamseg.types.ids import parse_stream_id

Score = Annotated[float, Field(ge=0, le=1)]


def _encodable(text: str) -> str:
    if "\0" in text or (not text.isascii() and text != text.encode(errors="replace").decode()):
        raise ValueError("must be text that a file name can hold, without NUL")
    return text


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must be without NUL")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
StreamId = Annotated[str, AfterValidator(parse_stream_id)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


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


class _Passed(_Config):
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


class StreamConfig(_Config):
    """One source."""

    url: Annotated[str, AfterValidator(_without_nul), Field(min_length=1, repr=False)]
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
    """Where several engines may have the camera in turn: epochs begin with it, and Redis takes no results of
    an engine that began with a lower one. None: nobody else publishes this stream."""
    classes: tuple[str, ...] | None = None
    """Class names to keep of this stream, among those of ``model.classes``; None keeps all."""
    score: Score | None = None
    """Lowest score of this stream, if it is to be above ``model.score``."""
    region: Polygons = ()
    """Only objects that lie in it by half or more."""
    ignore: Polygons = ()
    """Objects that lie in one of these by half or more are left out."""
    zones: dict[PlaceName, ZoneConfig] = {}
    """By name: parts of the picture that objects enter and leave."""
    lines: dict[PlaceName, LineConfig] = {}
    """By name: lines that objects cross."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if both := sorted(self.zones.keys() & self.lines.keys()):
            raise ValueError(f"zones and lines need different names, got {', '.join(both)} twice")
        return self


_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")
_ALLOWED = "auto, cpu, cuda, cuda:N, or a list of these"


def _devices(value: Any) -> Any:
    """One device, or a list of several; a list of one is that one."""
    found = list(value) if isinstance(value, list | tuple) else [value]
    for device in found:
        if not (isinstance(device, str) and _DEVICE.fullmatch(device)):
            raise ValueError(
                f"{device!r} is no device; allowed are auto, cpu, cuda, cuda:N, or a list of these"
            )
    if not found:
        raise ValueError(f"an empty list; allowed are {_ALLOWED}")
    return found[0] if len(found) == 1 else tuple(found)


class ModelConfig(_Config):
    """What is looked for, with which weights, on what."""

    weights: Text = "demo"
    """Name of bundled weights, or path of a ``.safetensors`` file."""
    device: Annotated[str | tuple[str, ...], BeforeValidator(_devices)] = "auto"
    """Where it runs; auto: an NVIDIA GPU if there is one; a list: an engine process on each, also several
    on one device."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: half precision wherever it is faster on that device."""
    runtime: Literal["auto", "torch", "onnxruntime", "openvino"] = "auto"
    """What computes the network on a CPU."""
    score: Score = 0.3
    """Instances below this score are left out."""
    classes: tuple[str, ...] | None = None
    """Class names to keep; None keeps all."""
    max_instances: Annotated[int, Field(ge=1, le=100_000)] = 100
    """At most so many per frame, the best ones."""
    overlap: Literal["class", "any"] | None = None
    """What is left out under a better object: another of its class, or any other, so that no object has two
    labels; null: what the weights say (any for the bundled ones, class for the published models)."""


class BatchingConfig(_Config):
    """When a batch leaves: full, or its oldest frame has waited long enough."""

    max_batch: Annotated[int, Field(ge=1, le=256)] = 8
    """Frames of a full batch."""
    max_wait_ms: Annotated[float, Field(ge=0)] = 20.0
    """Milliseconds that the oldest frame of a batch waits for company."""
    max_age_ms: Annotated[float, Field(gt=0)] = 500.0
    """Live frames that are older when their batch is formed are dropped and counted as ``late``."""


class TrackingConfig(_Config):
    """Ids that stay with an object."""

    enabled: bool = True
    """Whether objects get ids."""


class OverlayOptions(_Config):
    """What is painted over the pictures, in the video, on the page and in Redis alike."""

    masks: bool = True
    """Translucent fills."""
    outlines: bool = True
    """The edges of the masks."""
    boxes: bool = False
    """The boxes around the masks."""
    labels: bool = True
    """Class and score."""
    ids: bool = True
    """Track ids."""
    trails: bool = False
    """Where tracked objects were during the last 3 seconds."""
    places: bool = True
    """Zones and lines of the stream, with what was counted at them."""
    blur: tuple[str, ...] = ()
    """Class names whose objects are made unrecognisable."""


class VideoConfig(_Config):
    """Overlay video."""

    type: Literal["video"]
    path: Annotated[Text, Field(min_length=1)]
    """A file, or a folder or a template with ``{stream}`` for several streams."""
    part_minutes: Annotated[float, Field(gt=0)] = 60.0
    """Live sources: each file is so long, the next is ``NAME.part2.mp4``."""
    encode: Literal["auto", "x264", "nvenc"] = "auto"
    """Who encodes: the processor, or an NVIDIA device; without an encoder there the processor."""


class PushConfig(_Config):
    """Overlay, pushed to a media server."""

    type: Literal["push"]
    url: Annotated[Text, Field(min_length=1, repr=False)]
    """``rtsp://user:password@host:port/{stream}`` or ``rtsps://``."""
    encode: Literal["auto", "x264", "nvenc"] = "auto"
    """As of the video."""


class NdjsonConfig(_Config):
    """One JSON result per line."""

    type: Literal["ndjson"]
    path: Annotated[Text, Field(min_length=1)]
    """As that of a video; ``-`` is stdout."""


class RedisConfig(_Config):
    """Redis streams."""

    type: Literal["redis"]
    url: Annotated[Text, Field(repr=False)]
    """``redis://user:password@host:port/0`` or ``rediss://``; ``embedded`` starts one on this machine."""
    password_file: Annotated[Text, Field(min_length=1)] | None = None
    """File whose content is the password; read anew at each attempt to connect."""
    overlays: bool = False
    """Publish JPEG overlays as well."""
    maxlen: Annotated[int, Field(ge=1, le=1 << 31)] = 1000
    """Results of a stream that are kept, about so many."""


class EventsConfig(_Config):
    """What happens at zones and lines, one JSON object per line."""

    type: Literal["events"]
    path: Annotated[Text, Field(min_length=1)]
    """As that of a video."""


class MqttConfig(_Config):
    """The same over MQTT."""

    type: Literal["mqtt"]
    url: Annotated[Text, Field(repr=False)]
    """``mqtt://user:password@host:port`` or ``mqtts://``."""
    topic: Text = "streamseg/{stream}/{event}"
    """``{stream}`` and ``{event}`` stand for the stream's id and the kind of the event."""
    qos: Annotated[int, Field(ge=0, le=2)] = 1
    """0: sent once, perhaps lost; 1: acknowledged, perhaps doubled; 2: exactly once."""


class WebhookConfig(_Config):
    """The same as HTTP requests."""

    type: Literal["webhook"]
    url: Annotated[Text, Field(repr=False)]
    """Where each event is posted to, as JSON."""
    cooldown: Annotated[float, Field(ge=0)] = 0.0
    """Seconds after a request in which the same event at the same place of the stream is left out."""


OutputConfig = Annotated[
    VideoConfig | NdjsonConfig | RedisConfig | PushConfig | EventsConfig | MqttConfig | WebhookConfig,
    Field(discriminator="type"),
]


class _Server(_Config):
    enabled: bool = False
    """Whether it is served."""
    host: Annotated[str, Field(pattern=r"^[0-9A-Za-z.:_-]+$")] = "127.0.0.1"
    """Address to listen on; one that other machines reach needs a token."""
    token: Annotated[Text | None, Field(repr=False)] = None
    """What a visitor has to give, at least 16 characters; better as ``${NAME}`` than in the file."""


class ViewConfig(_Server):
    """Live page."""

    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    """0 is any free one."""


class MetricsConfig(_Server):
    """Metrics and health."""

    port: Annotated[int, Field(ge=0, le=65535)] = 9090
    """0 is any free one."""


class RunConfig(_Config):
    """A whole run."""

    streams: tuple[StreamConfig, ...] = ()
    """What is segmented."""
    model: ModelConfig = ModelConfig()
    batching: BatchingConfig = BatchingConfig()
    tracking: TrackingConfig = TrackingConfig()
    overlay: OverlayOptions = OverlayOptions()
    outputs: tuple[OutputConfig, ...] = ()
    """Where the results go."""
    view: ViewConfig = ViewConfig()
    metrics: MetricsConfig = MetricsConfig()
