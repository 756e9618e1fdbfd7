"""Configuration of a run: YAML, validated; unknown keys are errors; ``${NAME}`` is the environment."""

from streamseg.config.advice import hint
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
from streamseg.config.validation import describe, parse_config, parse_model

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
    "hint",
    "parse_config",
    "parse_model",
    "read_config",
    "set_key",
]
