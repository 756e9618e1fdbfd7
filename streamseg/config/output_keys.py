"""The keys of each kind of output."""

from typing import Annotated, Literal

from pydantic import Field

from streamseg.config.values import Section, Text


class VideoConfig(Section):
    """Overlay video."""

    type: Literal["video"]
    path: Annotated[Text, Field(min_length=1)]
    """A file, or a folder or a template with ``{stream}`` for several streams."""
    part_minutes: Annotated[float, Field(gt=0)] = 60.0
    """Live sources: each file is so long, the next is ``NAME.part2.mp4``."""
    encode: Literal["auto", "x264", "nvenc"] = "auto"
    """Who encodes: the processor, or an NVIDIA device; without an encoder there the processor."""


class PushConfig(Section):
    """Overlay, pushed to a media server."""

    type: Literal["push"]
    url: Annotated[Text, Field(min_length=1, repr=False)]
    """``rtsp://user:password@host:port/{stream}`` or ``rtsps://``."""
    encode: Literal["auto", "x264", "nvenc"] = "auto"
    """As of the video."""


class NdjsonConfig(Section):
    """One JSON result per line."""

    type: Literal["ndjson"]
    path: Annotated[Text, Field(min_length=1)]
    """As that of a video; ``-`` is stdout."""


class RedisConfig(Section):
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


class EventsConfig(Section):
    """What happens at zones and lines, one JSON object per line."""

    type: Literal["events"]
    path: Annotated[Text, Field(min_length=1)]
    """As that of a video."""


class MqttConfig(Section):
    """The same over MQTT."""

    type: Literal["mqtt"]
    url: Annotated[Text, Field(repr=False)]
    """``mqtt://user:password@host:port`` or ``mqtts://``."""
    topic: Text = "streamseg/{stream}/{event}"
    """``{stream}`` and ``{event}`` stand for the stream's id and the kind of the event."""
    qos: Annotated[int, Field(ge=0, le=2)] = 1
    """0: sent once, perhaps lost; 1 and 2: acknowledged, after an outage perhaps doubled."""


class WebhookConfig(Section):
    """The same as HTTP requests."""

    type: Literal["webhook"]
    url: Annotated[Text, Field(repr=False)]
    """``https://user:password@host:port/path``, where each event is posted to, as JSON."""
    cooldown: Annotated[float, Field(ge=0)] = 0.0
    """Seconds after a request in which the same event at the same place of the stream is left out."""


OutputConfig = Annotated[
    VideoConfig | NdjsonConfig | RedisConfig | PushConfig | EventsConfig | MqttConfig | WebhookConfig,
    Field(discriminator="type"),
]
