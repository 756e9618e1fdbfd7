"""A stream's numbers, and when it is over."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.errors import SourceError
from streamseg.runtime.stats import RunStats, StreamStats
from streamseg.types import (
    GIVEN_UP,
    LATE,
    FramePolicy,
    FramesDropped,
    StreamChanged,
    StreamEnd,
    StreamState,
)
from tests.support.frames import make_info, no_instances

ENDED = StreamChanged("a", StreamState.ENDED)


def test_a_stream_is_over_when_it_has_ended_and_its_last_frame_has_its_result() -> None:
    stream = StreamStats()
    for _ in range(2):
        stream.frame_came()
    assert not stream.frame_delivered(no_instances())
    assert not stream.changed(ENDED)
    assert stream.waiting == 1
    assert stream.frame_delivered(no_instances())


def test_a_frame_that_is_dropped_may_be_the_last_one() -> None:
    stream = StreamStats()
    stream.frame_came()
    assert not stream.changed(ENDED)
    assert stream.frames_dropped(FramesDropped("a", LATE, 1))


def test_what_an_output_drops_is_no_frame_that_is_missing() -> None:
    stream = StreamStats()
    stream.frame_came()
    stream.frames_dropped(FramesDropped("a", "by Redis", 5))
    assert stream.waiting == 1


@given(st.permutations(["came", "came", "came", "result", "result", "late", "ended"]))
def test_it_is_said_once_and_not_before_the_end(order: list[str]) -> None:
    stream, came, gone, said = StreamStats(), 0, 0, []
    for step in order:
        match step:
            case "came":
                came += 1
                stream.frame_came()
                continue
            case "ended":
                said.append(stream.changed(ENDED))
            case _ if gone == came:
                continue  # nothing has come that could have gone
            case "result":
                gone += 1
                said.append(stream.frame_delivered(no_instances()))
            case "late":
                gone += 1
                said.append(stream.frames_dropped(FramesDropped("a", LATE, 1)))
    assert sum(said) <= 1
    if order[-1] == "ended":
        assert (sum(said) == 1) == (came == gone)


@pytest.mark.parametrize("policy", list(FramePolicy))
def test_how_a_stream_ended(policy: FramePolicy) -> None:
    stream = StreamStats()
    stream.opened(make_info(policy=policy))
    assert stream.end is StreamEnd.ENDED
    stream.stop()
    recorded = policy is FramePolicy.EVERY_FRAME
    assert stream.end is (StreamEnd.STOPPED if recorded else StreamEnd.ENDED), "a camera has no more to give"
    stream.changed(StreamChanged("a", StreamState.FAILED, SourceError("gone")))
    assert stream.end is StreamEnd.FAILED


def test_frames_that_are_given_up_make_a_recording_stopped() -> None:
    stream = StreamStats()
    stream.opened(make_info())
    stream.changed(ENDED)
    stream.frames_dropped(FramesDropped("a", GIVEN_UP, 1))
    assert stream.end is StreamEnd.STOPPED


def test_a_frame_that_gets_its_result_while_it_is_given_up_does_not_keep_the_stream_open() -> None:
    stream = StreamStats()
    stream.opened(make_info())
    for _ in range(3):
        stream.frame_came()
    stream.changed(ENDED)
    waiting = stream.waiting
    assert not stream.frame_delivered(no_instances())
    assert stream.frames_dropped(FramesDropped("a", GIVEN_UP, waiting))
    assert not stream.frame_delivered(no_instances()), "it is said once"


def test_an_id_that_is_used_again_goes_on_with_its_numbers() -> None:
    run = RunStats(["a", "b"])
    stream = run.streams["a"]
    stream.frame_came()
    stream.frame_delivered(no_instances())
    with pytest.raises(ValueError, match="still being read"):
        run.admit("a")
    stream.changed(StreamChanged("a", StreamState.FAILED, SourceError("gone")))
    assert not run.stream_over(stream)
    assert run.admit("a") is stream
    assert (stream.results, stream.error, stream.over) == (1, None, False)


def test_a_run_is_over_with_its_last_stream_and_takes_no_more() -> None:
    run = RunStats(["a", "b"])
    assert not run.stream_over(run.streams["a"])
    assert run.stream_over(run.streams["b"])
    assert run.over
    assert run.admit("c") is None
    assert RunStats([]).over


def test_only_one_thread_is_told_that_the_stream_is_over() -> None:
    for _ in range(50):
        stream, told, start = StreamStats(), [], threading.Barrier(2)
        stream.frame_came()

        def end(
            stream: StreamStats = stream, told: list[bool] = told, start: threading.Barrier = start
        ) -> None:
            start.wait()
            told.append(stream.changed(ENDED))

        thread = threading.Thread(target=end)
        thread.start()
        start.wait()
        told.append(stream.frame_delivered(no_instances()))
        thread.join()
        assert sorted(told) == [False, True]
