import pytest

from streamseg.sources import Backoff


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff(jitter=0.0)
    assert [backoff.delay(failures, 0.5) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_very_long_outage_does_not_overflow() -> None:
    assert Backoff(jitter=0.0).delay(100_000, 0.0) == 30.0


@pytest.mark.parametrize(("draw", "delay"), [(0.0, 3.2), (0.5, 4.0), (1.0, 4.8)])
def test_jitter_spreads_the_delays(draw: float, delay: float) -> None:
    assert Backoff().delay(3, draw) == pytest.approx(delay)
