"""Configuration of a run: YAML, validated; unknown keys are errors; ``${NAME}`` is the environment."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from streamseg.errors import ConfigError, mask_password

STREAM_ID = r"^[A-Za-z0-9_.-]{1,64}$"
Score = Annotated[float, Field(ge=0, le=1)]
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}")


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


def read_config(path: Path) -> dict[str, Any]:
    """Read a YAML file into plain values, environment variables put in. Raises ConfigError."""
    try:
        content = _load_yaml(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML ({error})") from None
    if not isinstance(content or {}, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, not a {type(content).__name__}")
    try:
        expanded: dict[str, Any] = _expand(content or {}, where=str(path))
    except RecursionError:  # YAML can refer to itself
        raise ConfigError(f"{path}: nested too deeply") from None
    return expanded


def _load_yaml(text: str) -> Any:
    """Read YAML. Raises ValueError, whose text quotes nothing: the line may hold a password."""
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(where + re.sub(r"'[^']{2,}'", "'...'", str(error.problem))) from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except Exception as error:  # noqa: BLE001  explicit tags and dates make PyYAML raise whatever int() and others do
        raise ValueError(f"a value does not fit its tag ({type(error).__name__})") from None


def _expand(value: Any, *, where: str) -> Any:
    """Put environment variables in for every ``${NAME}`` in the strings of ``value``."""
    if isinstance(value, dict):
        return {key: _expand(item, where=f"{where}: {key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, where=where) for item in value]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in os.environ:
            raise ConfigError(f"{where}: the environment variable {name} is not set")
        return os.environ[name]

    return _VARIABLE.sub(variable, value)


def set_key(content: dict[str, Any], assignment: str) -> None:
    """Apply ``dotted.path=value`` to plain values; the value is YAML and may hold ``${NAME}``.

    Raises ConfigError.
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {assignment!r}: write KEY=VALUE, e.g. batching.max_batch=4")
    try:
        value = _expand(_load_yaml(text), where=f"--set {path}")
    except ValueError as error:
        raise ConfigError(f"--set {path}=...: the value is not valid YAML ({error})") from None
    except RecursionError:  # YAML can refer to itself
        raise ConfigError(f"--set {path}=...: nested too deeply") from None
    *parents, last = path.split(".")
    place: Any = content
    for key in parents:
        place = _step_into(place, key, assignment)
    if isinstance(place, list):
        place[_index(place, last, assignment)] = value
    else:
        place[last] = value


def _step_into(place: Any, key: str, assignment: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, key, assignment)]
    inner = place.setdefault(key, {})
    if not isinstance(inner, dict | list):
        raise ConfigError(f"--set {assignment!r}: {key} holds a value, not keys")
    return inner


def _index(place: Sequence[Any], key: str, assignment: str) -> int:
    if not key.isdigit() or int(key) >= len(place):
        raise ConfigError(f"--set {assignment!r}: {key} is not an index below {len(place)}")
    return int(key)


_ADAPTER = TypeAdapter(RunConfig)


def parse_config(content: dict[str, Any], *, where: str) -> RunConfig:
    """Validate plain values. Raises ConfigError with one line that names every bad key."""
    try:
        return _ADAPTER.validate_python(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error)}") from error


def describe(error: ValidationError) -> str:
    """Say in one line which keys are wrong and what is allowed."""
    return mask_password("; ".join(_describe_one(dict(one)) for one in error.errors(include_url=False)))


def _describe_one(one: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in one["loc"])
    if one["type"] == "extra_forbidden":
        return f"unknown key {key}"
    return f"{key}: {one['msg']}"
