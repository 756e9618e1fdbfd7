"""Numbers of a stream that several engines have had."""

from __future__ import annotations

from streamseg.runtime.stats import StreamStats
from streamseg.scale.control import StreamNumbers
from streamseg.scale.totals import StreamTotals
from streamseg.types import StreamState


def test_a_cameras_numbers_are_those_of_all_its_owners() -> None:
    stats = StreamStats()
    totals = StreamTotals(stats, resumed=False)
    first = StreamNumbers(received=12, results=10, dropped={"late": 1}, labels={"car": 5}, reconnects=1)
    assert totals.take(1, first, live=True) == 10
    assert stats.waiting == 1
    second = StreamNumbers(state=StreamState.LIVE, received=4, results=3, labels={"car": 1, "dog": 2})
    assert totals.take(2, second, live=True) == 3
    assert (stats.results, stats.dropped.total(), stats.reconnects) == (13, 1, 1)
    assert stats.labels == {"car": 6, "dog": 2}
    assert stats.state is StreamState.LIVE
    assert stats.waiting == 1, "what the first owner had under way is gone"
    assert totals.take(2, second, live=True) == 0


def test_a_recording_that_is_done_again_counts_once() -> None:
    stats = StreamStats()
    totals = StreamTotals(stats, resumed=False)
    assert totals.take(1, StreamNumbers(received=9, results=8, labels={"car": 8}), live=False) == 8
    assert totals.take(2, StreamNumbers(received=6, results=5, kept=7), live=False) == 0
    assert totals.take(2, StreamNumbers(received=20, results=20, kept=7), live=False) == 12
    assert (stats.results, stats.labels.total(), stats.kept) == (20, 0, 0)
