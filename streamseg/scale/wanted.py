"""From a source and its rules back to the configuration of one stream, which an engine is told."""

from __future__ import annotations

from typing import Any

from streamseg.config import StreamConfig
from streamseg.sources import Source
from streamseg.zones import StreamRules


def stream_config(source: Source, rules: StreamRules) -> dict[str, Any]:
    """The keys of the stream, as JSON has them; user and password stand in the URL."""
    stream = StreamConfig(
        id=source.id,
        url=source.url,
        live=source.live,
        transport=source.transport,
        decode=source.decode,
        start=source.start,
        end=source.end,
        stride=source.stride,
        deinterlace=source.deinterlace,
        stalled_after=source.read_timeout,
        reconnect_attempts=source.reconnect_attempts,
        damaged=source.damaged,
        classes=rules.classes,
        score=rules.score or None,
        region=rules.region,
        ignore=rules.ignore,
        zones=dict(rules.zones),
        lines=dict(rules.lines),
    )
    return stream.model_dump(mode="json", exclude_defaults=True)
