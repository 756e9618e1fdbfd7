"""Which engine gets which stream."""

from __future__ import annotations

import pytest

from streamseg.scale.division import MOST_LOSSES, Division


def division(*capacities: float) -> Division:
    found = Division()
    for engine, capacity in enumerate(capacities):
        found.join(engine, capacity)
    return found


def test_recordings_go_to_whoever_is_free() -> None:
    found = division(20, 20)
    for name in "abcdef":
        found.add(name, recorded=True)
    wanted = found.divide()
    assert {len(streams) for streams in wanted.values()} == {2}, "each has one to read and one to follow"
    done = wanted[0].pop()
    found.remove(done)
    assert found.divide()[0] - wanted[0] == {"e"}, "whoever is done gets the next one"
    assert found.divide()[1] == wanted[1]


def test_a_fast_engine_has_more_recordings_at_once() -> None:
    found = division(1000, 20)
    for number in range(20):
        found.add(f"f{number}", recorded=True)
    wanted = found.divide()
    assert len(wanted[0]) == 5
    assert len(wanted[1]) == 2


def test_cameras_are_divided_by_capacity_and_stay_where_they_are() -> None:
    found = division(300, 100)
    names = {f"c{number}" for number in range(40)}
    for name in names:
        found.add(name, recorded=False)
    wanted = found.divide()
    assert wanted[0] | wanted[1] == names
    assert 22 <= len(wanted[0]) <= 38
    assert found.divide() == wanted


def test_the_streams_of_a_dead_engine_go_to_the_others_and_come_back_one_by_one() -> None:
    found = division(100, 100)
    for name in "abcd":
        found.add(name, recorded=False)
    before = found.divide()
    found.leave(0)
    for name in before[0]:
        assert found.lost(name, recorded=False)
    assert found.divide() == {1: set("abcd")}
    found.join(0, 100)
    leaving = found.divide()
    assert leaving[0] == set(), "the owner finishes its files first"
    gone = set("abcd") - leaving[1]
    assert gone
    assert all(found.left(name) for name in gone)
    assert found.divide() == {0: gone, 1: set("abcd") - gone}


def test_a_recording_over_which_engines_die_is_given_up_and_takes_no_other_with_it() -> None:
    found = division(20)
    for name in ("bad", "good", "other"):
        found.add(name, recorded=True)
    lost: list[set[str]] = []
    for _ in range(MOST_LOSSES):
        lost.append(found.divide()[0])
        found.leave(0)
        kept = [found.lost(name, recorded=True) for name in sorted(lost[-1], reverse=True)]
        found.join(0, 20)
    assert lost == [{"bad", "good"}, {"bad", "good"}, {"bad"}]
    assert kept == [False]
    assert found.divide()[0] == {"good"}, "it had died with the bad one twice: alone, too"
    found.remove("good")
    assert found.divide()[0] == {"other"}


@pytest.mark.parametrize(("named", "live"), [("recorded", True), ("camera", False)])
def test_what_turns_out_to_be_something_else_stays_where_it_is(named: str, live: bool) -> None:
    found = division(100, 100)
    found.add("x", recorded=named == "recorded")
    wanted = found.divide()
    (owner,) = (engine for engine, streams in wanted.items() if streams)
    found.turned_out("x", engine=owner, live=live)
    assert found.divide() == wanted


def test_a_recording_is_not_to_blame_for_an_engine_that_was_dead_before_it_began() -> None:
    """Engines that die at the same moment pass their streams on to each other."""
    found = division(20)
    found.add("a", recorded=True)
    for _ in range(2 * MOST_LOSSES):
        assert found.divide()[0] == {"a"}
        found.leave(0)
        assert found.lost("a", recorded=True, begun=False)
        found.join(0, 20)
