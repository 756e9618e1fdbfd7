"""Zones and lines: who enters, leaves, stays and crosses; counted once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
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


@pytest.mark.parametrize(("x", "counted"), [(300, 1), (305, 1), (318, 2)])
def test_an_object_whose_id_and_class_switch_counts_once_if_it_is_in_the_same_place(
    x: int, counted: int
) -> None:
    """A van that is found as a car and then as a truck; somebody who gets off a bicycle stands beside it."""
    watch = Watch({"square": SQUARE}, {})
    for index in range(8):
        id_, at, label = (1, 300, "car") if index < 4 else (2, x, "truck")
        watch.update(frame(index), standing({id_: (at, 300)}, label=label))
    assert watch.counts() == {"square": counted}


def test_events_count_what_has_happened_up_to_them() -> None:
    both = {"square": SQUARE, "again": SQUARE}
    watch = Watch(both, {})
    entered = [e for k in range(3) for e in watch.update(frame(k), standing({1: (300, 300)})).events]
    left = [e for k in range(3, 99) for e in watch.update(frame(k), standing({})).events]
    assert [tuple(e.counts.values()) for e in entered + left] == [(1, 0), (1, 1), (0, 1), (0, 0)]


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


@settings(deadline=None)
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
