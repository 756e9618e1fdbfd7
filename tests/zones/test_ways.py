"""Objects that go any way through any zone and line: the events are those of plain geometry.

What is expected is worked out apart, in whole numbers: where the object stands in each frame that it is seen
in, and what has been so for ``inertia`` frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamseg.config import LineConfig, ZoneConfig
from streamseg.zones.watch import Watch
from tests.zones.boxes import HEIGHT, WIDTH, frame, standing

Place = tuple[int, int]

STEP = 30
"""Pixels that an object moves between two frames at most: an id that switches is then known again."""

places = st.tuples(st.integers(20, WIDTH - 20), st.integers(50, HEIGHT - 10))
inertias = st.integers(1, 5)


def way_through(stops: Sequence[Place]) -> list[Place]:
    """Straight from stop to stop, which are all touched, in steps of at most :data:`STEP` pixels."""
    way = [stops[0]]
    for (x1, y1), (x2, y2) in pairwise(stops):
        count = max(1, math.ceil(math.dist((x1, y1), (x2, y2)) / (STEP - 2)))
        way += [
            (round(x1 + (x2 - x1) * k / count), round(y1 + (y2 - y1) * k / count))
            for k in range(1, count + 1)
        ]
    return way


ways = st.lists(places, min_size=1, max_size=5).map(way_through)


def side(a: Place, b: Place, p: Place) -> int:
    """1 right of the way from a to b (y points down), -1 left, 0 on it."""
    cross = (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])
    return (cross > 0) - (cross < 0)


def expected_crossings(way: Sequence[Place], a: Place, b: Place, inertia: int) -> list[str]:
    crossings: list[str] = []
    home, last, run = 0, (0, 0), []
    for place in way:
        here = side(a, b, place)
        if here in {0, home}:
            run = run if here == 0 else []
        elif home == 0:
            home = here
        else:
            run.append((last, place))
            if len(run) == inertia:
                before, after = run[0]
                # The line's ends lie on both sides of the way, or on it.
                if side(before, after, a) * side(before, after, b) <= 0:
                    crossings.append("in" if here > 0 else "out")
                home, run = here, []
        if here == home:
            last = place
    return crossings


def on_edge(corners: Sequence[Place], p: Place) -> bool:
    ends = zip(corners, [*corners[1:], corners[0]], strict=True)
    return any(
        side(a, b, p) == 0
        and min(a[0], b[0]) <= p[0] <= max(a[0], b[0])
        and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])
        for a, b in ends
    )


def within(corners: Sequence[Place], p: Place) -> bool:
    """Even-odd rule; edges and corners count."""
    odd = False
    for (ax, ay), (bx, by) in zip(corners, [*corners[1:], corners[0]], strict=True):
        if (ay > p[1]) != (by > p[1]):
            # left of where the edge meets the row: (p - a) x (b - a), by the sign of its height
            right = (bx - ax) * (p[1] - ay) - (p[0] - ax) * (by - ay)
            odd ^= right > 0 if by > ay else right < 0
    return odd or on_edge(corners, p)


def expected_visits(way: Sequence[Place], corners: Sequence[Place], inertia: int) -> list[str]:
    visits: list[str] = []
    inside, run = False, 0
    for place in way:
        run = run + 1 if within(corners, place) != inside else 0
        if run == inertia:
            inside, run = not inside, 0
            visits.append("enter" if inside else "leave")
    return visits


@st.composite
def polygons(draw: st.DrawFn) -> tuple[Place, ...]:
    """Simple ones, many with corners that point inwards."""
    x, y = draw(places)
    count = draw(st.integers(3, 8))
    radii = draw(st.lists(st.integers(30, 250), min_size=count, max_size=count))
    corners = [
        (round(x + r * math.cos(2 * math.pi * k / count)), round(y + r * math.sin(2 * math.pi * k / count)))
        for k, r in enumerate(radii)
    ]
    return tuple((min(max(0, a), WIDTH), min(max(0, b), HEIGHT)) for a, b in corners)


def told(way: Sequence[Place | None], watch: Watch, ids: Sequence[int] = ()) -> list[str]:
    """What happens to one object, hidden where its place is None; ``ids``: of each frame, 1 by default."""
    ids = ids or [1] * len(way)
    seen = [{} if place is None else {id_: place} for place, id_ in zip(way, ids, strict=True)]
    updates = [watch.update(frame(k), standing(feet)) for k, feet in enumerate(seen)]
    return [event.direction or event.event for update in updates for event in update.events]


def line_of(a: Place, b: Place, inertia: int) -> LineConfig:
    return LineConfig(points=(a, b), inertia=inertia)


def square(x: int, y: int, half: int = 100) -> tuple[Place, ...]:
    return (x - half, y - half), (x + half, y - half), (x + half, y + half), (x - half, y + half)


@settings(deadline=None)
@given(ways, places, places, inertias)
@example(way_through([(100, 100), (500, 400)]), (300, 250), (300, 400), 3)  # through an end
@example(way_through([(100, 240), (600, 240)]), (200, 240), (500, 240), 3)  # along the line
@example(way_through([(100, 240), (300, 240), (300, 300)]), (200, 240), (500, 240), 3)  # and then off
def test_any_way_crosses_any_line_as_often_as_it_leads_through_it(
    way: list[Place], a: Place, b: Place, inertia: int
) -> None:
    if a == b:
        return
    watch = Watch({}, {"line": line_of(a, b, inertia)})
    expected = expected_crossings(way, a, b, inertia)
    assert told(way, watch) == expected
    assert watch.counts() == {"line": {d: expected.count(d) for d in ("in", "out")}}


@settings(deadline=None)
@given(ways, polygons(), inertias)
def test_any_way_enters_and_leaves_any_zone_as_often_as_it_leads_in_and_out(
    way: list[Place], corners: tuple[Place, ...], inertia: int
) -> None:
    watch = Watch({"zone": ZoneConfig(polygon=corners, inertia=inertia)}, {})
    assert told(way, watch) == (expected := expected_visits(way, corners, inertia))
    assert watch.counts() == {"zone": int(expected[-1:] == ["enter"])}


@settings(deadline=None)
@given(places, places, polygons(), st.integers(0, 7))
def test_a_way_through_a_corner_enters_and_leaves_as_any_other(
    begin: Place, end: Place, corners: tuple[Place, ...], which: int
) -> None:
    way = way_through([begin, corners[which % len(corners)], end])
    watch = Watch({"zone": ZoneConfig(polygon=corners)}, {})
    assert told(way, watch) == expected_visits(way, corners, 3)


@settings(deadline=None)
@given(st.data(), ways, polygons(), places, places)
def test_who_is_lost_and_found_again_with_another_id_is_the_same(
    data: st.DataObject, way: list[Place], corners: tuple[Place, ...], a: Place, b: Place
) -> None:
    """Hidden at any time, for up to a second; a new id where it was seen in the frame before."""
    if a == b:
        return
    hidden = data.draw(st.lists(st.booleans(), min_size=len(way), max_size=len(way)))
    hidden = [flag and not any(hidden[max(0, k - 25) : k]) for k, flag in enumerate(hidden)]
    length = data.draw(st.integers(1, 25))
    gone = {k + n for k, flag in enumerate(hidden) if flag for n in range(length)}
    switches = data.draw(st.lists(st.integers(1, max(1, len(way) - 1)), max_size=4))
    ids, id_ = [], 1
    for k in range(len(way)):
        id_ += k in switches and k not in gone and k - 1 not in gone
        ids.append(id_)
    seen = [None if k in gone else place for k, place in enumerate(way)]
    there = [place for place in seen if place is not None]
    zone, line = ZoneConfig(polygon=corners), line_of(a, b, 3)
    assert told(seen, Watch({"zone": zone}, {}), ids) == expected_visits(there, corners, 3)
    assert told(seen, Watch({}, {"line": line}), ids) == expected_crossings(there, a, b, 3)


@settings(deadline=None)
@given(ways, ways, polygons())
def test_two_objects_do_not_mix(first: list[Place], second: list[Place], corners: tuple[Place, ...]) -> None:
    """Also where their ways cross: nothing is handed over while both are seen."""
    watch = Watch({"zone": ZoneConfig(polygon=corners)}, {})
    count = min(len(first), len(second))
    pairs = list(zip(first, second, strict=False))
    events = [
        (event.id, event.event)
        for k, (one, two) in enumerate(pairs)
        for event in watch.update(frame(k), standing({1: one, 2: two})).events
    ]
    for id_, way in ((1, first), (2, second)):
        assert [name for n, name in events if n == id_] == expected_visits(way[:count], corners, 3)


@pytest.mark.parametrize("turn", range(0, 360, 15))
def test_in_is_to_the_right_of_the_line_however_it_lies(turn: int) -> None:
    angle = math.radians(turn)
    along, across = (math.cos(angle), math.sin(angle)), (-math.sin(angle), math.cos(angle))

    def at(forward: float, right: float) -> Place:
        return (
            round(320 + forward * along[0] + right * across[0]),
            round(240 + forward * along[1] + right * across[1]),
        )

    line = {"line": line_of(at(-100, 0), at(100, 0), 3)}
    assert told(way_through([at(0, -120), at(0, 120)]), Watch({}, line)) == ["in"]
    assert told(way_through([at(40, 120), at(-40, -120)]), Watch({}, line)) == ["out"]
    assert told(way_through([at(150, -120), at(150, 120)]), Watch({}, line)) == []
    there_and_back = way_through([at(0, -120), at(20, 120), at(-20, -120)])
    assert told(there_and_back, Watch({}, line)) == ["in", "out"]


@settings(deadline=None)
@given(st.lists(st.sampled_from([1, 1, 1, 0, -1]), max_size=60), inertias)
def test_nobody_who_walks_along_the_line_crosses_it_by_flicker(flicker: list[int], inertia: int) -> None:
    """On it, beside it, and on the other side for fewer frames than count."""
    calm, run = [], 0
    for aside in flicker:
        run = run + 1 if aside < 0 else (run if aside == 0 else 0)
        calm.append(1 if aside < 0 and run >= inertia else aside)
        run = 0 if calm[-1] > 0 else run
    way = [(60 + 8 * k, 240 - 9 * aside) for k, aside in enumerate([1, *calm])]
    watch = Watch({}, {"line": line_of((20, 240), (620, 240), inertia)})
    assert told(way, watch) == []
