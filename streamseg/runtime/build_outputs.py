"""From the sections of ``outputs`` of a configuration to outputs."""

from __future__ import annotations

from collections.abc import Mapping

from streamseg.config import (
    EventsConfig,
    MqttConfig,
    NdjsonConfig,
    OutputConfig,
    OverlayOptions,
    PushConfig,
    RedisConfig,
    RunConfig,
    VideoConfig,
    WebhookConfig,
)
from streamseg.outputs import NdjsonOutput, PushOutput, VideoOutput
from streamseg.outputs.events import EventsOutput
from streamseg.outputs.mqtt import MqttOutput
from streamseg.outputs.webhook import WebhookOutput
from streamseg.redis.publish import RedisOutput
from streamseg.types import Output
from streamseg.zones import StreamRules


def build_outputs(
    config: RunConfig, *, several: bool, rules: Mapping[str, StreamRules] | None = None
) -> list[Output]:
    """The outputs of a configuration, see :func:`build_output`."""
    return [
        build_output(output, several=several, overlay=config.overlay, rules=rules)
        for output in config.outputs
    ]


def build_output(
    config: OutputConfig,
    *,
    several: bool,
    overlay: OverlayOptions | None = None,
    rules: Mapping[str, StreamRules] | None = None,
) -> Output:
    """The output that a section of the configuration describes.

    ``several``: for more than one stream; ``rules``: those of streams by id, which may change meanwhile.
    """
    match config:
        case VideoConfig():
            return VideoOutput(
                config.path,
                several=several,
                overlay=overlay,
                rules=rules,
                part_seconds=60 * config.part_minutes,
                encode=config.encode,
            )
        case PushConfig():
            return PushOutput(config.url, overlay=overlay, rules=rules, encode=config.encode)
        case NdjsonConfig():
            return NdjsonOutput(config.path, several=several)
        case EventsConfig() | MqttConfig() | WebhookConfig():
            return _build_events(config, several=several)
        case RedisConfig():
            return RedisOutput(
                config.url,
                overlays=config.overlays,
                maxlen=config.maxlen,
                password_file=config.password_file,
                overlay=overlay,
                rules=rules,
            )


def _build_events(config: EventsConfig | MqttConfig | WebhookConfig, *, several: bool) -> Output:
    match config:
        case EventsConfig():
            return EventsOutput(config.path, several=several)
        case MqttConfig():
            return MqttOutput(config.url, topic=config.topic, qos=config.qos)
        case WebhookConfig():
            return WebhookOutput(config.url, cooldown=config.cooldown)
