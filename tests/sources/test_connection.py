"""States and delays of one stream; time is the test's own."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from streamseg.sources import Backoff, Source
from streamseg.sources.connection import Numbering, StreamConnection
from streamseg.sources.messages import Opened
from streamseg.types import FramesDropped
from tests.support.reading import Listener

PLAIN = Backoff(jitter=0.0)
OPENED = Opened(
    job=1,
    live=True,
    width=64,
    height=48,
    time_base=(1, 90000),
    fps=25.0,
    frame_count=None,
    has_audio=False,
    slots=8,
    origin=0.0,
)


class Bench:
    """A camera that is being read, and the clock."""

    def __init__(
        self,
        *,
        attempts: int | None = None,
        after: Numbering | None = None,
        first_epoch: int = 0,
    ) -> None:
        self.now = 1000.0
        self.listener = Listener()
        source = Source(
            id="cam", url="rtsp://host/a", live=True, reconnect_attempts=attempts, first_epoch=first_epoch
        )
        self.connection = StreamConnection(
            source, emit=self.listener, backoff=PLAIN, after=after, clock=lambda: self.now
        )
        self.connection.begin()

    def delay(self) -> float:
        return self.connection.retry_at - self.now

    def live_for(self, seconds: float) -> None:
        self.connection.opened(OPENED)
        self.now += seconds


def test_the_delay_grows_from_failure_to_failure() -> None:
    bench = Bench()
    delays = []
    for _ in range(7):
        bench.connection.interrupted("Connection refused")
        delays.append(bench.delay())
    assert delays == [1, 2, 4, 8, 16, 30, 30]
    assert bench.listener.states("cam") == ["connecting"]
    assert len(bench.listener.changes) == 8, "every failure is told"


def test_a_healthy_minute_makes_the_delay_short_again() -> None:
    bench = Bench()
    for _ in range(4):
        bench.live_for(59)
        bench.connection.interrupted(None)
    assert bench.delay() == 8, "a camera that comes and goes is not asked once a second"
    bench.live_for(60)
    bench.connection.interrupted(None)
    assert bench.delay() == 1


def test_a_stall_lasts_until_the_next_attempt_fails() -> None:
    bench = Bench()
    bench.live_for(5)
    bench.connection.stalled()
    assert bench.delay() == 1
    assert str(bench.listener.last("cam").error) == "lost rtsp://host/a: no frame for 5 s"
    bench.connection.interrupted("no answer in time")
    bench.connection.opened(OPENED)
    assert bench.listener.states("cam") == ["connecting", "live", "stalled", "connecting", "live"]
    assert bench.listener.last("cam").reconnects == 1
    assert "no answer in time" in str(bench.listener.last("cam").error), "the last error is kept"


def test_a_camera_that_refuses_the_user_is_asked_less_and_less() -> None:
    bench = Bench()
    bench.connection.interrupted("Connection refused")
    delays = []
    for _ in range(6):
        bench.connection.interrupted("user or password refused", "user")
        delays.append(bench.delay())
    assert delays == [60, 120, 240, 480, 900, 900]


def test_a_path_that_was_never_there_is_asked_for_once_a_minute() -> None:
    bench = Bench()
    for _ in range(3):
        bench.connection.interrupted("no such stream", "path")
        assert bench.delay() == 60


def test_a_path_that_was_there_comes_back_soon() -> None:
    bench = Bench()
    bench.live_for(100)
    bench.connection.interrupted(None)
    bench.connection.interrupted("no such stream", "path")
    assert bench.delay() == 2


@pytest.mark.parametrize("attempts", [0, 2])
def test_attempts_are_counted_since_it_was_live(attempts: int) -> None:
    bench = Bench(attempts=attempts)
    for _ in range(3 if attempts else 0):
        bench.live_for(1)
        bench.connection.interrupted(None)
    for _ in range(attempts - 1):
        bench.connection.interrupted("refused")
    if attempts:
        assert not bench.connection.over
    bench.connection.interrupted("refused")
    assert bench.connection.over
    assert bench.listener.error("cam").startswith("cannot connect to rtsp://host/a: refused")


def test_warnings_come_at_growing_intervals(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()
    warned = []
    with caplog.at_level(logging.WARNING):
        for failure in range(1, 100):
            caplog.clear()
            bench.connection.interrupted("Connection refused")
            warned += [failure] * len(caplog.records)
    assert warned == [1, 2, 4, 8, 16, 32, 64]


def test_frames_that_are_missing_are_counted_once() -> None:
    bench = Bench()
    bench.connection.opened(OPENED)
    for number in (3, 3, 2, 10):
        bench.connection.count_to(number)
    drops = [event for event in bench.listener.events if isinstance(event, FramesDropped)]
    assert [(drop.reason, drop.count) for drop in drops] == [("busy", 3), ("busy", 7)]


def test_a_stream_that_comes_back_goes_on_counting() -> None:
    bench = Bench(after=Numbering(epoch=2, next_index=70))
    bench.connection.opened(OPENED)
    assert bench.listener.infos[0].epoch == 3
    assert bench.connection.numbering == Numbering(3, 70)


def test_epochs_of_an_owner_begin_with_its_first() -> None:
    bench = Bench(first_epoch=5)
    epochs = []
    for _ in range(3):
        bench.connection.opened(OPENED)
        assert bench.connection.info is not None
        epochs.append((bench.connection.info.epoch, bench.connection.info.reconnects))
        bench.connection.interrupted("gone")
    assert epochs == [(5, 0), (6, 1), (7, 2)]
    assert bench.listener.changes[-1].reconnects == 2


def test_an_owner_that_has_it_again_begins_above_all_it_had() -> None:
    bench = Bench(first_epoch=5, after=Numbering(9, 100))
    bench.connection.opened(OPENED)
    assert bench.connection.epoch == 10
    bench.connection.replace(replace(bench.connection.source, first_epoch=20))
    bench.connection.opened(OPENED)
    assert bench.connection.epoch == 20
