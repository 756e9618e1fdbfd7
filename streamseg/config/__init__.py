"""Configuration of a run: YAML, validated; unknown keys are errors; ``${NAME}`` is the environment."""

from streamseg.config.keys import (
    BatchingConfig,
    MetricsConfig,
    ModelConfig,
    NdjsonConfig,
    OutputConfig,
    OverlayOptions,
    RedisConfig,
    RunConfig,
    Score,
    StreamConfig,
    Text,
    TrackingConfig,
    VideoConfig,
    ViewConfig,
)
from streamseg.config.reading import read_config, set_key
from streamseg.config.validation import describe, parse_config

__all__ = [
    "BatchingConfig",
    "MetricsConfig",
    "ModelConfig",
    "NdjsonConfig",
    "OutputConfig",
    "OverlayOptions",
    "RedisConfig",
    "RunConfig",
    "Score",
    "StreamConfig",
    "Text",
    "TrackingConfig",
    "VideoConfig",
    "ViewConfig",
    "describe",
    "parse_config",
    "read_config",
    "set_key",
]
