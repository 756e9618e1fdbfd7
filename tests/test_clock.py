"""Time stamps as sources send them, and the clock that is made of them."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.clock import JOINED_GAP, FrameClock, SourceClock, Stamps

TICK = Fraction(1, 90_000)
STEP = 3600
SOUND_STEP = 1920


def moved(clock: SourceClock, track: int, *ticks: int, step: int = STEP) -> list[int | None]:
    return [clock.move(track, Stamps(t, t, step), TICK).pts for t in ticks]


def steps(first: int, count: int, step: int = STEP) -> list[int]:
    return [first + step * number for number in range(count)]


@pytest.mark.parametrize("first", [-340_000, 0, 126_000, 4_781_556_000])
def test_a_clock_that_runs_is_left_as_it_is(first: int) -> None:
    clock = SourceClock(leader=0)
    assert moved(clock, 0, *steps(first, 50)) == steps(first, 50)
    assert clock.jumps == 0


@pytest.mark.parametrize("again", [0, 126_000, 90_000_000])
def test_time_goes_on_when_the_clock_begins_anew(again: int) -> None:
    clock = SourceClock(leader=0, longest_gap=JOINED_GAP)
    found = moved(clock, 0, *steps(500_000, 5), *steps(again, 5))
    assert found == steps(500_000, 10)
    assert clock.jumps == 1


def test_a_gap_is_no_jump_where_files_are_not_joined() -> None:
    clock = SourceClock(leader=0)
    hour = 3600 * 90_000
    assert moved(clock, 0, 0, STEP, hour) == [0, STEP, hour]


@pytest.mark.parametrize("order", ["pictures first", "sound first", "in turn"])
def test_sound_is_moved_with_the_pictures(order: str) -> None:
    clock = SourceClock(leader=0, longest_gap=JOINED_GAP)
    moved(clock, 0, *steps(900_000, 25))
    moved(clock, 1, *steps(900_000, 46, SOUND_STEP), step=SOUND_STEP)
    if order == "pictures first":
        pictures = moved(clock, 0, *steps(3000, 25))
        sound = moved(clock, 1, *steps(3000, 46, SOUND_STEP), step=SOUND_STEP)
    elif order == "sound first":
        sound = moved(clock, 1, *steps(3000, 46, SOUND_STEP), step=SOUND_STEP)
        pictures = moved(clock, 0, *steps(3000, 25))
    else:
        late = moved(clock, 1, 900_000 + 46 * SOUND_STEP, step=SOUND_STEP)
        pictures = moved(clock, 0, *steps(3000, 25))
        assert late == [900_000 + 46 * SOUND_STEP]
        sound = moved(clock, 1, *steps(3000, 46, SOUND_STEP), step=SOUND_STEP)
    assert pictures[0] == sound[0], "they began at the same moment"
    assert abs((pictures[0] or 0) - (900_000 + 25 * STEP)) <= SOUND_STEP
    assert clock.jumps == 1


def test_a_single_wrong_time_leaves_sound_and_pictures_together() -> None:
    clock = SourceClock(leader=0, longest_gap=JOINED_GAP)
    moved(clock, 0, *steps(900_000, 25))
    moved(clock, 1, *steps(900_000, 46, SOUND_STEP), step=SOUND_STEP)
    moved(clock, 0, 17)
    after = 900_000 + 26 * STEP
    assert moved(clock, 0, *steps(after, 25)) == steps(after, 25)
    assert moved(clock, 1, *steps(after, 25, SOUND_STEP), step=SOUND_STEP) == steps(after, 25, SOUND_STEP)


@pytest.mark.parametrize("back", [2 * STEP, 3 * STEP, 9 * STEP])
def test_clips_that_overlap_keep_their_sound(back: int) -> None:
    """The second clip begins a little before the first one ends."""
    clock = SourceClock(leader=0, longest_gap=JOINED_GAP)
    moved(clock, 0, *steps(900_000, 25))
    moved(clock, 1, *steps(900_000, 46, SOUND_STEP), step=SOUND_STEP)
    begin = 900_000 + 25 * STEP - back
    moved(clock, 1, begin, step=SOUND_STEP)
    pictures = moved(clock, 0, *steps(begin, 5))
    sound = moved(clock, 1, *steps(begin + SOUND_STEP, 9, SOUND_STEP), step=SOUND_STEP)
    assert pictures[0] == 900_000 + 25 * STEP
    assert sound[0] == 900_000 + 25 * STEP + SOUND_STEP


def test_a_cameras_clock_is_judged_by_ours() -> None:
    now = [0.0]
    clock = SourceClock(leader=0, live=True, now=lambda: now[0])
    found = []
    for ticks in (0, STEP, 2 * STEP, 90_000 * 60, 90_000 * 60 + STEP, 10, 10 + STEP):
        found.append(clock.move(0, Stamps(ticks, None, 0), TICK).pts)
        now[0] += 0.04
    assert clock.jumps == 2
    assert [round((a or 0) * TICK, 2) for a in found] == [
        pytest.approx(number * Fraction(4, 100), abs=0.01) for number in range(7)
    ]
    now[0] += 60.0
    (after,) = moved(clock, 0, 10 + 2 * STEP + 90_000 * 60)
    assert float((after or 0) * TICK) == pytest.approx(60.28, abs=0.1), (
        "a camera that was silent for a minute"
    )


def test_decoding_times_give_pictures_without_a_time_one_each() -> None:
    clock = FrameClock(origin=0, step=1)
    for dts in range(4):
        clock.sent(Stamps(None, dts, 1))
    assert [clock.ticks(None) for _ in range(6)] == list(range(6))


def test_a_packet_that_gave_no_picture_is_not_waited_for() -> None:
    clock = FrameClock(origin=0, step=1)
    for dts in range(4):
        clock.sent(Stamps(None, dts, 1))
    clock.failed(Stamps(None, 0, 1))
    assert [clock.ticks(None) for _ in range(3)] == [1, 2, 3]


times = st.none() | st.integers(-(2**62), 2**62) | st.integers(-200_000, 200_000) | st.sampled_from([0, STEP])
packets = st.lists(
    st.tuples(st.integers(0, 2), st.builds(Stamps, times, times, st.integers(0, 2**40))), max_size=60
)


@settings(max_examples=60, deadline=None)
@given(packets=packets, live=st.booleans(), joined=st.booleans(), own=st.booleans())
def test_pictures_have_times_that_increase_whatever_comes(
    packets: list[tuple[int, Stamps]], live: bool, joined: bool, own: bool
) -> None:
    gap = JOINED_GAP if joined else Fraction(6 * 3600)
    source = SourceClock(leader=0, longest_gap=gap, live=live, now=lambda: 0.0)
    frames = FrameClock(origin=0, step=STEP)
    found = []
    for track, stamps in packets:
        placed = source.move(track, stamps, TICK)
        if track == 0:
            frames.sent(placed)
            found.append(frames.ticks(placed.pts if own else None, placed.duration))
    assert len(found) == sum(track == 0 for track, _ in packets), "none is lost"
    assert found == sorted(set(found))


joins = st.lists(
    st.tuples(
        st.integers(-400, 400).map(lambda k: 9_000_000 * k),
        st.integers(5, 40),
        st.randoms(use_true_random=False),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(joins=joins)
def test_sound_stays_with_the_pictures_however_parts_are_joined(joins: list[tuple[int, int, Random]]) -> None:
    """Each part is some pictures with their sound, shuffled as a file may store them."""
    clock = SourceClock(leader=0, longest_gap=JOINED_GAP)
    for first, count, random in joins:
        pictures = [(0, first + STEP * k) for k in range(count)]
        sound = [(1, first + SOUND_STEP * k) for k in range(count * STEP // SOUND_STEP)]
        turns = sorted(
            [*pictures, *sound], key=lambda packet: packet[1] + random.randint(0, 2 * STEP) * packet[0]
        )
        shifts: dict[int, set[int]] = {0: set(), 1: set()}
        for track, ticks in turns:
            step = SOUND_STEP if track else STEP
            (place,) = moved(clock, track, ticks, step=step)
            assert place is not None
            shifts[track].add(place - ticks)
        assert all(abs(a - b) <= STEP for a in shifts[0] for b in shifts[1])
