"""All zones and lines of a stream, frame by frame: events and counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from streamseg.config import LineConfig, ZoneConfig
from streamseg.types import Frame, Instances
from streamseg.types.zones import Counts, ZoneEvent
from streamseg.zones.anchors import Anchor, anchors_of
from streamseg.zones.line import Line, Position
from streamseg.zones.shapes import Point
from streamseg.zones.zone import Presence, Zone

FORGET_SECONDS = 2.0
"""An object that is hidden for longer has left: its track id does not come back either."""
_REACH = 0.75
"""A new id this near a lost one, in diagonals of the lost object's box, goes on with what is known of it."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What zones and lines say of one frame."""

    zones: tuple[tuple[str, ...], ...]
    """For each instance the names of the zones that it is in."""
    counts: Counts
    """After this frame."""
    events: tuple[ZoneEvent, ...]
    """In the order of the instances; first those of objects that are gone."""


@dataclass(slots=True)
class _Known:
    """One object: where it was last seen, and what each zone and line knows of it."""

    id: int
    label: str
    box: tuple[float, float, float, float]
    place: Point
    seen: float
    """Seconds on the stream's clock."""
    presences: dict[str, Presence] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)


class Watch:
    """Follows the tracked objects of one stream through its zones and lines.

    An object counts once, also if its id switches: an id that appears where one of the same class was lost
    is the same object. Counts of lines go on through all epochs; what is in a zone leaves it when the
    stream is lost.
    """

    def __init__(self, zones: Mapping[str, ZoneConfig], lines: Mapping[str, LineConfig]) -> None:
        self._zone_configs, self._line_configs = zones, lines
        self._zones: dict[str, Zone] = {}
        self._lines: dict[str, Line] = {}
        self._known: dict[int, _Known] = {}
        self._crossed = {name: {"in": 0, "out": 0} for name in lines}
        self._size = (0, 0)
        self._frame: Frame | None = None

    def update(self, frame: Frame, instances: Instances) -> Watched:
        """Take in the next frame's instances, with their track ids; those without are passed over."""
        events = self._begin(frame)
        anchors = self._anchors(instances)
        places = {id_: i for i, id_ in enumerate(instances.ids) if id_ is not None}
        self._hand_over(instances, places)
        for id_, i in places.items():
            known = self._see(frame, instances, i, id_)
            events += self._visit(frame, known, {kind: points[i] for kind, points in anchors.items()})
        events += self._forget(frame, places)
        self._frame = frame
        zones = tuple(self._zones_of(id_) for id_ in instances.ids or (None,) * len(instances))
        return Watched(zones, self.counts(), tuple(events))

    def counts(self) -> Counts:
        """Objects in each zone, and how many have crossed each line in each direction so far."""
        known = self._known.values()
        counts: Counts = {
            name: sum(name in k.presences and k.presences[name].inside for k in known)
            for name in self._zone_configs
        }
        for name, crossed in self._crossed.items():
            counts[name] = dict(crossed)
        return counts

    def _begin(self, frame: Frame) -> list[ZoneEvent]:
        """Fit the shapes to the frame; with a new epoch, or another size, everybody has left."""
        size = frame.width, frame.height
        former = self._frame
        events: list[ZoneEvent] = []
        if former is not None and (former.epoch != frame.epoch or self._size != size):
            for known in list(self._known.values()):
                events += self._leave(former, known)
        if self._size != size:
            self._size = size
            self._zones = {
                name: Zone(config, width=frame.width, height=frame.height)
                for name, config in self._zone_configs.items()
            }
            self._lines = {
                name: Line(config, width=frame.width, height=frame.height)
                for name, config in self._line_configs.items()
            }
        return events

    def _anchors(self, instances: Instances) -> dict[Anchor, list[Point]]:
        configs = [*self._zone_configs.values(), *self._line_configs.values()]
        return {kind: anchors_of(instances, kind) for kind in {config.anchor for config in configs}}

    def _hand_over(self, instances: Instances, places: Mapping[int, int]) -> None:
        """Give what is known of lost ids to new ones that appear in their places."""
        lost = [known for known in self._known.values() if known.id not in places]
        pairs = []
        for id_, i in places.items():
            if id_ in self._known or not lost:
                continue
            place = _middle(instances.boxes[i].tolist())
            for known in lost:
                x1, y1, x2, y2 = known.box
                distance = math.dist(place, known.place) / max(1.0, math.hypot(x2 - x1, y2 - y1))
                if known.label == instances.labels[i] and distance <= _REACH:
                    pairs.append((distance, id_, known))
        for _, id_, known in sorted(pairs, key=lambda pair: pair[:2]):
            if known.id in self._known and known.id not in places and id_ not in self._known:
                del self._known[known.id]
                known.id = id_
                self._known[id_] = known

    def _see(self, frame: Frame, instances: Instances, i: int, id_: int) -> _Known:
        x1, y1, x2, y2 = instances.boxes[i].tolist()
        box = (float(x1), float(y1), float(x2), float(y2))
        label = instances.labels[i]
        known = self._known.setdefault(id_, _Known(id_, label, box, _middle(box), frame.pts))
        known.label, known.box, known.place, known.seen = label, box, _middle(box), frame.pts
        return known

    def _visit(self, frame: Frame, known: _Known, points: Mapping[Anchor, Point]) -> list[ZoneEvent]:
        """One object in all zones and at all lines."""
        events = []
        for name, zone in self._zones.items():
            # One that is found to be of another class leaves the zones of the former.
            inside = _looks_at(zone.config, known.label) and zone.holds(points[zone.config.anchor])
            presence = known.presences.setdefault(name, Presence())
            if happened := zone.update(presence, inside=inside, now=frame.pts):
                events.append(self._event(frame, known, event=happened, zone=name))
        for name, line in self._lines.items():
            position = known.positions.setdefault(name, Position())
            direction = line.update(position, points[line.config.anchor])
            if direction and _looks_at(line.config, known.label):
                self._crossed[name][direction] += 1
                events.append(self._event(frame, known, event="cross", line=name, direction=direction))
        return events

    def _forget(self, frame: Frame, places: Mapping[int, int]) -> list[ZoneEvent]:
        gone = [
            known
            for known in self._known.values()
            if known.id not in places and not 0 <= frame.pts - known.seen <= FORGET_SECONDS
        ]
        return [event for known in gone for event in self._leave(frame, known)]

    def _leave(self, frame: Frame, known: _Known) -> list[ZoneEvent]:
        """An object is gone, and with it from every zone that it was in."""
        del self._known[known.id]
        inside = [name for name, presence in known.presences.items() if presence.inside]
        return [self._event(frame, known, event="leave", zone=name) for name in inside]

    def _zones_of(self, id_: int | None) -> tuple[str, ...]:
        if id_ is None:
            return ()
        return tuple(name for name, presence in self._known[id_].presences.items() if presence.inside)

    def _event(self, frame: Frame, known: _Known, **what: Any) -> ZoneEvent:
        return ZoneEvent(
            stream=frame.stream,
            epoch=frame.epoch,
            frame=frame.index,
            pts=round(frame.pts, 6),
            time=round(frame.time, 3),
            id=known.id,
            label=known.label,
            box=known.box,
            counts=self.counts(),
            **what,
        )


def _looks_at(config: ZoneConfig | LineConfig, label: str) -> bool:
    return config.classes is None or label in config.classes


def _middle(box: tuple[float, float, float, float] | list[int]) -> Point:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
