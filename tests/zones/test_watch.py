"""Zones and lines: who enters, leaves, stays and crosses; counted once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from streamseg.config import LineConfig, ZoneConfig
from streamseg.types.zones import ZoneEvent
from streamseg.zones.watch import FORGET_SECONDS, Watch
from tests.zones.boxes import HEIGHT, WIDTH, frame, standing

GATE = LineConfig(points=((0.25, 0.5), (0.75, 0.5)))  # y = 240 from x = 160 to 480
SQUARE = ZoneConfig(polygon=((200, 200), (400, 200), (400, 400), (200, 400)))
Feet = dict[int, tuple[float, float]]


def watched(ways: Iterable[Feet], watch: Watch, *, first: int = 0, epoch: int = 0) -> list[ZoneEvent]:
    """Events of one frame after the other."""
    return [
        event
        for index, feet in enumerate(ways, start=first)
        for event in watch.update(frame(index, epoch=epoch), standing(feet)).events
    ]


def walk(points: Sequence[tuple[float, float]], *, id_: int = 1) -> list[Feet]:
    return [{id_: point} for point in points]


def told(events: Iterable[ZoneEvent]) -> list[str]:
    return [" ".join(filter(None, (e.event, e.zone, e.line, e.direction))) for e in events]


def down(x: float = 320) -> list[Feet]:
    return walk([(x, y) for y in range(200, 300, 10)])


def test_down_through_a_line_that_is_drawn_to_the_right_is_in() -> None:
    watch = Watch({}, {"gate": GATE})
    assert told(watched(down(), watch)) == ["cross gate in"]
    assert watch.counts() == {"gate": {"in": 1, "out": 0}}


def test_back_up_is_out_and_the_other_way_round_for_a_line_drawn_to_the_left() -> None:
    turned = LineConfig(points=GATE.points[::-1])
    watch = Watch({}, {"gate": GATE, "turned": turned})
    assert told(watched(reversed(down()), watch)) == ["cross gate out", "cross turned in"]


def test_passing_beside_the_ends_is_no_crossing() -> None:
    watch = Watch({}, {"gate": GATE})
    assert watched(down(x=100), watch) == []
    assert watched([{2: feet[1]} for feet in down(x=560)], watch) == []


def test_who_walks_round_an_end_and_back_through_the_line_has_crossed_once() -> None:
    round_the_end = [(320, 200), (100, 200), (100, 300), (100, 310), (100, 320), (320, 320)]
    back = [(320, 220), (320, 210), (320, 205), (320, 200)]
    watch = Watch({}, {"gate": GATE})
    assert told(watched(walk(round_the_end + back), watch)) == ["cross gate out"]


def test_flicker_across_the_line_is_no_crossing() -> None:
    watch = Watch({}, {"gate": GATE})
    flicker = [(320, 230 + 20 * (k % 3 > 0)) for k in range(30)]  # two frames below, one above
    assert watched(walk(flicker), watch) == []


def test_walking_along_the_line_is_no_crossing() -> None:
    watch = Watch({}, {"gate": GATE})
    assert watched(walk([(x, 240) for x in range(100, 500, 10)]), watch) == []


def test_who_is_hidden_while_crossing_has_crossed() -> None:
    seen = down()
    hidden = [*seen[:4], {}, {}, {}, *seen[6:]]
    assert told(watched(hidden, Watch({}, {"gate": GATE}))) == ["cross gate in"]


def test_an_id_that_switches_on_the_line_counts_once() -> None:
    ways = down()
    switched = [*ways[:5], *[{7: feet[1]} for feet in ways[5:]]]
    watch = Watch({"square": SQUARE}, {"gate": GATE})
    assert told(watched(switched, watch)) == ["enter square", "cross gate in"]
    assert watch.counts() == {"square": 1, "gate": {"in": 1, "out": 0}}


def test_a_new_object_far_from_a_lost_one_is_another_object() -> None:
    ways = [{1: (320, 300)}] * 4 + [{2: (220, 300)}] * 4
    watch = Watch({"square": SQUARE}, {})
    assert told(watched(ways, watch)) == ["enter square", "enter square"]
    assert watch.counts() == {"square": 2}


def test_enter_dwell_leave() -> None:
    patient = SQUARE.model_copy(update={"dwell": 1.0})
    ways = [(300, 100)] * 3 + [(300, 300)] * 40 + [(300, 450)] * 3
    events = watched(walk(ways), Watch({"square": patient}, {}))
    assert told(events) == ["enter square", "dwell square", "leave square"]
    assert [e.frame for e in events] == [
        5,
        30,
        45,
    ]  # the third frame inside, a second later, the third outside
    assert [e.counts for e in events] == [{"square": 1}, {"square": 1}, {"square": 0}]


def test_an_object_that_is_seen_in_the_zone_first_enters_it() -> None:
    watch = Watch({"square": SQUARE}, {})
    results = [watch.update(frame(k), standing({1: (300, 300)})) for k in range(3)]
    assert [r.zones for r in results] == [((),), ((),), (("square",),)]
    assert [r.counts["square"] for r in results] == [0, 0, 1]


def test_who_vanishes_leaves_when_it_is_forgotten() -> None:
    watch = Watch({"square": SQUARE}, {})
    assert told(watched(walk([(300, 300)] * 3), watch)) == ["enter square"]
    gone = watched([{}] * 100, watch, first=3)
    assert told(gone) == ["leave square"]
    assert gone[0].pts - 2 / 25 > FORGET_SECONDS  # last seen in frame 2
    assert watch.counts() == {"square": 0}


def test_with_a_new_connection_everybody_has_left_and_lines_go_on_counting() -> None:
    watch = Watch({"square": SQUARE}, {"gate": GATE})
    watched(down(), watch)
    (event,) = watched(walk([(320, 100)]), watch, first=10, epoch=1)
    assert (event.event, event.epoch, event.counts) == (
        "leave",
        0,
        {"square": 0, "gate": {"in": 1, "out": 0}},
    )


def test_classes() -> None:
    cars = {"classes": ("car",)}
    watch = Watch({"square": SQUARE.model_copy(update=cars)}, {"gate": GATE.model_copy(update=cars)})
    assert watched(down(), watch) == []
    found = [watch.update(frame(20 + k), standing({2: (320, 300)}, label="car")) for k in range(3)]
    assert told(found[-1].events) == ["enter square"]


def test_who_turns_out_to_be_of_another_class_leaves() -> None:
    watch = Watch({"square": SQUARE.model_copy(update={"classes": ("person",)})}, {})
    watched(walk([(300, 300)] * 3), watch)
    found = [watch.update(frame(3 + k), standing({1: (300, 300)}, label="car")) for k in range(3)]
    assert told(found[-1].events) == ["leave square"]


def test_objects_without_an_id_do_not_count() -> None:
    watch = Watch({"square": SQUARE}, {})
    for index in range(5):
        instances = standing({1: (300, 300)})
        instances = type(instances)(
            **{f: getattr(instances, f) for f in instances.__slots__} | {"ids": (None,)}
        )
        assert watch.update(frame(index), instances).zones == ((),)
    assert watch.counts() == {"square": 0}


@given(
    angle=st.floats(0, 2 * math.pi),
    middle=st.floats(0.05, 0.95),
    speed=st.floats(2, 80),
    gap=st.integers(0, 20),
    switch=st.booleans(),
)
def test_straight_ways_through_the_line_count_once_in_the_right_direction(
    angle: float, middle: float, speed: float, gap: int, switch: bool
) -> None:
    """Any direction and speed; hidden for up to 20 frames on the way; with and without a switched id."""
    x, y = 160 + middle * 320, 240
    dx, dy = math.cos(angle), math.sin(angle)
    reach = 140 / speed
    times = [k - reach for k in range(round(2 * reach) + 8)]
    places = [(x + speed * t * dx, y + speed * t * dy) for t in times]
    half = len(places) // 2
    hidden = 0 if switch else min(gap, max(0, half - 4))
    ways = [
        {} if abs(k - half) < hidden / 2 else {2 if switch and k >= half else 1: place}
        for k, place in enumerate(places)
    ]
    if switch and speed > 30:
        return  # too far between two frames to be known again
    watch = Watch({}, {"gate": GATE})
    watched(ways, watch)
    first, last = places[0][1], places[-1][1]
    if min(abs(first - 240), abs(last - 240)) < 25 or len(places) < 12:
        return  # nearly along the line: whether it is crossed hangs on single pixels
    assert watch.counts()["gate"] == {"in": int(last > 240), "out": int(last < 240)}


@given(
    angle=st.floats(0, 2 * math.pi),
    offset=st.floats(-90, 90),
    speed=st.floats(2, 50),
)
def test_straight_ways_through_a_zone_enter_and_leave_once(angle: float, offset: float, speed: float) -> None:
    dx, dy = math.cos(angle), math.sin(angle)
    reach = 190 / speed
    ways = [
        {1: (300 - offset * dy + speed * t * dx, 300 + offset * dx + speed * t * dy)}
        for t in (k - reach for k in range(round(2 * reach) + 6))
    ]
    watch = Watch({"square": SQUARE}, {})
    events = told(watched(ways, watch))
    within = sum(1 for way in ways for x, y in way.values() if 201 < x < 399 and 201 < y < 399)
    assert events in ([], ["enter square", "leave square"], ["enter square"])
    assert events or within < 3
    assert watch.counts() == {"square": int(events == ["enter square"])}


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 6), st.integers(-50, 700), st.integers(-50, 550))), max_size=25
    )
)
def test_counts_are_those_of_the_events_whatever_objects_do(steps: list[list[tuple[int, int, int]]]) -> None:
    watch = Watch({"square": SQUARE}, {"gate": GATE})
    events = watched(
        [{id_: (x % WIDTH + 10, y % HEIGHT + 40) for id_, x, y in step} for step in steps], watch
    )
    kinds = told(events)
    counts = watch.counts()
    assert counts["square"] == kinds.count("enter square") - kinds.count("leave square") >= 0
    assert counts["gate"] == {d: kinds.count(f"cross gate {d}") for d in ("in", "out")}
