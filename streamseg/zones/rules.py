"""What a user wants to hear of one stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamseg.config import LineConfig, Polygon, StreamConfig, ZoneConfig
from streamseg.zones.filter import StreamFilter
from streamseg.zones.watch import Watch


@dataclass(frozen=True, slots=True)
class StreamRules:
    """Which objects of a stream count, and which zones and lines they are watched at; may change any time."""

    classes: tuple[str, ...] | None = None
    score: float = 0.0
    region: tuple[Polygon, ...] = ()
    ignore: tuple[Polygon, ...] = ()
    zones: Mapping[str, ZoneConfig] = field(default_factory=dict)
    lines: Mapping[str, LineConfig] = field(default_factory=dict)

    @classmethod
    def of(cls, config: StreamConfig) -> StreamRules:
        """Those of a stream of the configuration."""
        return cls(
            classes=config.classes,
            score=config.score or 0.0,
            region=config.region,
            ignore=config.ignore,
            zones=config.zones,
            lines=config.lines,
        )

    @property
    def watching(self) -> bool:
        """Whether there is a zone or a line."""
        return bool(self.zones or self.lines)

    def filter(self) -> StreamFilter:
        """Keeps the objects that count."""
        return StreamFilter(classes=self.classes, score=self.score, region=self.region, ignore=self.ignore)

    def watch(self) -> Watch | None:
        """Follows objects through zones and lines, if there are any."""
        return Watch(self.zones, self.lines) if self.watching else None
