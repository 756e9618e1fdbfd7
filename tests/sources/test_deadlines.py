import math

import pytest

from streamseg.sources import Backoff
from streamseg.sources.deadlines import Deadlines


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff(jitter=0.0)
    assert [backoff.delay(failures, 0.5) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_very_long_outage_does_not_overflow() -> None:
    assert Backoff(jitter=0.0).delay(100_000, 0.0) == 30.0


@pytest.mark.parametrize(("draw", "delay"), [(0.0, 3.2), (0.5, 4.0), (1.0, 4.8)])
def test_jitter_spreads_the_delays(draw: float, delay: float) -> None:
    assert Backoff().delay(3, draw) == pytest.approx(delay)


class Decoder:
    """Something with a deadline; counts how often it is asked for it."""

    def __init__(self, due: float) -> None:
        self.due, self.asked = due, 0

    def due_at(self) -> float:
        self.asked += 1
        return self.due


def test_only_those_that_are_due_are_looked_at() -> None:
    decoders = [Decoder(10.0 * number) for number in range(1, 4)]
    deadlines: Deadlines[Decoder] = Deadlines()
    for decoder in decoders:
        deadlines.plan(decoder)
    assert deadlines.next() == 10.0
    assert list(deadlines.reached(9.9)) == []
    assert list(deadlines.reached(20.0)) == decoders[:2]
    assert [decoder.asked for decoder in decoders] == [1, 1, 1]
    assert deadlines.next() == 30.0


def test_a_deadline_may_move() -> None:
    late, early = Decoder(10.0), Decoder(50.0)
    deadlines: Deadlines[Decoder] = Deadlines()
    for decoder in (late, early):
        deadlines.plan(decoder)
    late.due, early.due = 30.0, 5.0
    for decoder in (late, early):
        deadlines.plan(decoder)
    assert list(deadlines.reached(7.0)) == [early]
    assert list(deadlines.reached(10.0)) == [late], "to be planned anew"
    deadlines.plan(late)
    assert list(deadlines.reached(60.0)) == [late], "and no more of the one that was early"
    assert deadlines.next() == math.inf
