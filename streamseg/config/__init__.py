"""Configuration of a run: YAML, validated; unknown keys are errors; ``${NAME}`` is the environment."""

from streamseg.config.advice import hint
from streamseg.config.keys import (
    BatchingConfig,
    MetricsConfig,
    ModelConfig,
    OverlayOptions,
    RunConfig,
    TrackingConfig,
    ViewConfig,
)
from streamseg.config.output_keys import (
    EventsConfig,
    MqttConfig,
    NdjsonConfig,
    OutputConfig,
    PushConfig,
    RedisConfig,
    VideoConfig,
    WebhookConfig,
)
from streamseg.config.reading import read_config, set_key
from streamseg.config.stream_keys import LineConfig, Point, Polygon, StreamConfig, ZoneConfig
from streamseg.config.validation import describe, one_device, parse_config, parse_model
from streamseg.config.values import Score, Text

__all__ = [
    "BatchingConfig",
    "EventsConfig",
    "LineConfig",
    "MetricsConfig",
    "ModelConfig",
    "MqttConfig",
    "NdjsonConfig",
    "OutputConfig",
    "OverlayOptions",
    "Point",
    "Polygon",
    "PushConfig",
    "RedisConfig",
    "RunConfig",
    "Score",
    "StreamConfig",
    "Text",
    "TrackingConfig",
    "VideoConfig",
    "ViewConfig",
    "WebhookConfig",
    "ZoneConfig",
    "describe",
    "hint",
    "one_device",
    "parse_config",
    "parse_model",
    "read_config",
    "set_key",
]
