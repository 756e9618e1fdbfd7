"""The keys of a run's configuration: what each means, and which values are allowed."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from streamseg.config.output_keys import OutputConfig
from streamseg.config.stream_keys import StreamConfig
from streamseg.config.values import Score, Section, Text

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


def _some_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise ValueError("an empty list; allowed are at least one name, or null for all")
    return names


class ModelConfig(Section):
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
    classes: Annotated[tuple[str, ...], AfterValidator(_some_names)] | None = None
    """Class names to keep, at least one; None keeps all."""
    max_instances: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """At most so many per frame, the best ones; null: what the weights say (100 the bundled ones and the
    published models)."""
    overlap: Literal["class", "any"] | None = None
    """What is left out under a better object: another of its class, or any other, so that no object has two
    labels; null: what the weights say (any for the bundled ones, class for the published models)."""


class BatchingConfig(Section):
    """When a batch leaves: full, or its oldest frame has waited long enough."""

    max_batch: Annotated[int, Field(ge=1, le=256)] = 8
    """Frames of a full batch."""
    max_wait_ms: Annotated[float, Field(ge=0)] = 20.0
    """Milliseconds that the oldest frame of a batch waits for company."""
    max_age_ms: Annotated[float, Field(gt=0)] = 500.0
    """Live frames that are older when their batch is formed are dropped and counted as ``late``."""


class TrackingConfig(Section):
    """Ids that stay with an object."""

    enabled: bool = True
    """Whether objects get ids."""


class OverlayOptions(Section):
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


class _Server(Section):
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


class RunConfig(Section):
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
