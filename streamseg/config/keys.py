"""The keys of a run's configuration: what each means, and which values are allowed."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

STREAM_ID = r"^[A-Za-z0-9_.-]{1,64}$"
Score = Annotated[float, Field(ge=0, le=1)]


def _encodable(text: str) -> str:
    if "\0" in text or (not text.isascii() and text != text.encode(errors="replace").decode()):
        raise ValueError("must be text that a file name can hold, without NUL")
    return text


Text = Annotated[str, AfterValidator(_encodable)]


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)


class StreamConfig(_Config):
    """One source."""

    url: Annotated[Text, Field(min_length=1, repr=False)]
    """File, folder, glob, URL or /dev/videoN."""
    id: Annotated[str, Field(pattern=STREAM_ID)] | None = None
    """Made from the source if not given."""
    transport: Literal["tcp", "udp"] = "tcp"
    start: Annotated[float, Field(ge=0)] = 0.0
    """Seconds; recorded files only, like ``end`` and ``stride``."""
    end: Annotated[float, Field(gt=0)] | None = None
    stride: Annotated[int, Field(ge=1, le=1 << 31)] = 1
    """Every Nth frame."""
    deinterlace: Literal["auto", "off"] = "auto"
    """Whether interlaced pictures are made whole; auto: those that say that they are interlaced."""
    stalled_after: Annotated[float, Field(gt=0)] | None = None
    """Live sources only, like ``reconnect_attempts``: seconds without a frame; None for 5, HLS 30."""
    reconnect_attempts: Annotated[int, Field(ge=0)] | None = None
    """New attempts in a row that may fail before the stream is given up; None for any number."""


class ModelConfig(_Config):
    """What is looked for, with which weights, on what."""

    weights: Text = "demo"
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    score: Score = 0.3
    classes: tuple[str, ...] | None = None
    """Class names to keep; None keeps all."""
    max_instances: Annotated[int, Field(ge=1, le=100_000)] = 100


class BatchingConfig(_Config):
    """When a batch leaves: full, or its oldest frame has waited long enough."""

    max_batch: Annotated[int, Field(ge=1, le=256)] = 8
    max_wait_ms: Annotated[float, Field(ge=0)] = 20.0
    max_age_ms: Annotated[float, Field(gt=0)] = 500.0
    """Live frames that are older when their batch is formed are dropped and counted as ``late``."""


class TrackingConfig(_Config):
    """Ids that stay with an object."""

    enabled: bool = True


class OverlayOptions(_Config):
    """What is painted over the pictures, in the video, on the page and in Redis alike."""

    masks: bool = True
    """Translucent fills."""
    outlines: bool = True
    boxes: bool = False
    labels: bool = True
    """Class and score."""
    ids: bool = True
    """Track ids."""
    trails: bool = False
    """Where tracked objects were during the last 3 seconds."""
    blur: tuple[str, ...] = ()
    """Class names whose objects are made unrecognisable."""


class VideoConfig(_Config):
    """Overlay video."""

    type: Literal["video"]
    path: Annotated[Text, Field(min_length=1)]
    part_minutes: Annotated[float, Field(gt=0)] = 60.0
    """Live sources: each file is so long, the next is ``NAME.part2.mp4``."""


class NdjsonConfig(_Config):
    """One JSON result per line."""

    type: Literal["ndjson"]
    path: Annotated[Text, Field(min_length=1)]


class RedisConfig(_Config):
    """Redis streams."""

    type: Literal["redis"]
    url: Annotated[Text, Field(repr=False)]
    overlays: bool = False
    maxlen: Annotated[int, Field(ge=1, le=1 << 31)] = 1000


OutputConfig = Annotated[VideoConfig | NdjsonConfig | RedisConfig, Field(discriminator="type")]


class _Server(_Config):
    enabled: bool = False
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
    model: ModelConfig = ModelConfig()
    batching: BatchingConfig = BatchingConfig()
    tracking: TrackingConfig = TrackingConfig()
    overlay: OverlayOptions = OverlayOptions()
    outputs: tuple[OutputConfig, ...] = ()
    view: ViewConfig = ViewConfig()
    metrics: MetricsConfig = MetricsConfig()
