"""All zones and lines of a stream, frame by frame: events and counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from streamseg.config import LineConfig, ZoneConfig
from streamseg.types import Frame, Instances
from streamseg.types.zones import Counts, ZoneEvent
from streamseg.zones.anchors import Anchor, anchors_of
from streamseg.zones.line import Line, Position
from streamseg.zones.shapes import Point
from streamseg.zones.zone import Change, Presence, Zone

FORGET_SECONDS = 2.0
"""An object that is hidden for longer has left: its track id does not come back either."""
_REACH = 0.75
"""A new id this near a lost one, in diagonals of the lost object's box, goes on with what is known of it."""
_SAME_PLACE = 0.5
"""IoU with the lost object's box that makes a new id of another class the same object: one that the network
takes for a car and for a truck by turns may change its id with its class."""

_Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Watched:
    """What zones and lines say of one frame."""

    zones: tuple[tuple[str, ...], ...]
    """For each instance the names of the zones that it is in."""
    counts: Counts
    """After this frame."""
    events: tuple[ZoneEvent, ...]
    """In the order of the instances; last those of objects that are gone."""


@dataclass(slots=True)
class _Known:
    """One object: where it was last seen, and what each zone and line knows of it."""

    id: int
    label: str
    box: _Box
    seen: float
    """Seconds on the stream's clock."""
    presences: dict[str, Presence]
    positions: dict[str, Position]
    inside: tuple[str, ...] = ()
    """Names of the zones that it is in."""


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
        self._present = dict.fromkeys(zones, 0)
        self._crossed = {name: {"in": 0, "out": 0} for name in lines}
        self._size = (0, 0)
        self._frame: Frame | None = None

    def update(self, frame: Frame, instances: Instances) -> Watched:
        """Take in the next frame's instances, with their track ids; those without are passed over."""
        events = self._begin(frame)
        now = frame.pts
        places = {id_: i for i, id_ in enumerate(instances.ids) if id_ is not None}
        boxes: list[_Box] = [(x1, y1, x2, y2) for x1, y1, x2, y2 in instances.boxes.astype(float).tolist()]
        self._hand_over(instances.labels, boxes, places)
        anchors = self._anchors(instances)
        for id_, i in places.items():
            known = self._see(id_, instances.labels[i], boxes[i], now)
            events += self._visit(frame, known, {kind: points[i] for kind, points in anchors.items()})
        events += self._forget(frame, places)
        self._frame = frame
        ids = instances.ids or (None,) * len(instances)
        zones = tuple(() if id_ is None else self._known[id_].inside for id_ in ids)
        return Watched(zones, self.counts(), tuple(events))

    def counts(self) -> Counts:
        """Objects in each zone, and how many have crossed each line in each direction so far."""
        return {**self._present, **{name: dict(crossed) for name, crossed in self._crossed.items()}}

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

    def _hand_over(self, labels: tuple[str, ...], boxes: list[_Box], places: Mapping[int, int]) -> None:
        """Give what is known of lost ids to new ones that appear in their places."""
        lost = [known for known in self._known.values() if known.id not in places]
        if not lost:
            return
        pairs = []
        for id_ in places.keys() - self._known.keys():
            i = places[id_]
            for known in lost:
                near = _distance(known.box, boxes[i]) <= _REACH
                if near and (known.label == labels[i] or _iou(known.box, boxes[i]) >= _SAME_PLACE):
                    pairs.append((known.label != labels[i], _distance(known.box, boxes[i]), id_, known))
        for _, _, id_, known in sorted(pairs, key=lambda pair: pair[:3]):
            if known.id not in places and id_ not in self._known:
                del self._known[known.id]
                known.id = id_
                self._known[id_] = known

    def _see(self, id_: int, label: str, box: _Box, now: float) -> _Known:
        known = self._known.get(id_)
        if known is None:
            presences = {name: Presence() for name in self._zones}
            positions = {name: Position() for name in self._lines}
            known = self._known[id_] = _Known(id_, label, box, now, presences, positions)
        known.label, known.box, known.seen = label, box, now
        return known

    def _visit(self, frame: Frame, known: _Known, points: Mapping[Anchor, Point]) -> list[ZoneEvent]:
        """One object in all zones and at all lines."""
        events = []
        for name, zone in self._zones.items():
            # One that is found to be of another class leaves the zones of the former.
            inside = _looks_at(zone.config, known.label) and zone.holds(points[zone.config.anchor])
            if happened := zone.update(known.presences[name], inside=inside, now=known.seen):
                events.append(self._tell(frame, known, event=happened, zone=name))
        for name, line in self._lines.items():
            direction = line.update(known.positions[name], points[line.config.anchor])
            if direction and _looks_at(line.config, known.label):
                self._crossed[name][direction] += 1
                events.append(self._tell(frame, known, event="cross", line=name, direction=direction))
        return events

    def _forget(self, frame: Frame, places: Mapping[int, int]) -> list[ZoneEvent]:
        now = frame.pts
        gone = [
            known
            for known in self._known.values()
            if known.id not in places and not 0 <= now - known.seen <= FORGET_SECONDS
        ]
        return [event for known in gone for event in self._leave(frame, known)]

    def _leave(self, frame: Frame, known: _Known) -> list[ZoneEvent]:
        """An object is gone, and with it from every zone that it was in."""
        del self._known[known.id]
        events = []
        for name in known.inside:
            known.presences[name].inside = False
            events.append(self._tell(frame, known, event="leave", zone=name))
        return events

    def _tell(
        self, frame: Frame, known: _Known, *, event: Change | Literal["cross"], **what: Any
    ) -> ZoneEvent:
        """The event, with the counts after it."""
        if event in {"enter", "leave"}:
            self._present[what["zone"]] += 1 if event == "enter" else -1
            known.inside = tuple(name for name, presence in known.presences.items() if presence.inside)
        return ZoneEvent(
            stream=frame.stream,
            epoch=frame.epoch,
            frame=frame.index,
            pts=round(frame.pts, 6),
            time=round(frame.time, 3),
            event=event,
            id=known.id,
            label=known.label,
            box=known.box,
            counts=self.counts(),
            **what,
        )


def _looks_at(config: ZoneConfig | LineConfig, label: str) -> bool:
    return config.classes is None or label in config.classes


def _distance(lost: _Box, new: _Box) -> float:
    """From the middle of one box to that of the other, in diagonals of the first."""
    dx, dy = new[0] + new[2] - lost[0] - lost[2], new[1] + new[3] - lost[1] - lost[3]
    diagonal = math.hypot(lost[2] - lost[0], lost[3] - lost[1])
    return math.hypot(dx, dy) / 2 / max(1.0, diagonal)


def _iou(a: _Box, b: _Box) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / max(1.0, _area(a) + _area(b) - shared)


def _area(box: _Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
