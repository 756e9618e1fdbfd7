"""``max_fps``: how many frames of a camera are taken, which, and what is said of the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.errors import UsageError
from streamseg.sources import Source, SourcePool, resolve_sources
from streamseg.sources.pace import RateLimit
from streamseg.types import FramesDropped
from tests.support.media import write_clip
from tests.support.reading import Listener, worker_pids
from tests.support.servers import RtspServer, rtsp_server


def taken(times: list[float], fps: float | None) -> list[float]:
    limit = RateLimit(fps)
    return [time for time in times if limit.takes(time)]


def steady(fps: float, seconds: float, *, begin: float = 0.0) -> list[float]:
    return [begin + number / fps for number in range(round(fps * seconds))]


@pytest.mark.parametrize(
    ("camera", "limit"),
    [(25, 10), (30, 10), (12, 10), (29.97, 12.5), (60, 25), (25, 24), (25, 0.5), (50, 1), (7, 3), (15, 10)],
)
def test_the_wanted_rate_comes_out_evenly_spaced_whatever_the_camera_s(camera: float, limit: float) -> None:
    frames = taken(steady(camera, 100, begin=1234.5), limit)
    assert len(frames) == pytest.approx(limit * 100, abs=1)
    gaps = np.diff(frames)
    # No picture is further from its ideal time than half a frame of the camera.
    assert np.abs(gaps - 1 / limit).max() <= 1 / camera + 1e-6


@pytest.mark.parametrize("limit", [10, 10.0001, 25, 1000, None])
def test_a_camera_that_is_no_faster_loses_nothing(limit: float | None) -> None:
    times = steady(10, 30)
    assert taken(times, limit) == times


@settings(deadline=None)
@given(
    st.floats(1, 60),
    st.lists(st.floats(0, 0.25), min_size=2, max_size=200),
    st.floats(1, 2),
    st.floats(0, 1e6),
)
def test_nor_does_one_whose_frames_come_unevenly(
    fps: float, jitter: list[float], slower: float, begin: float
) -> None:
    times = [begin + (number * slower + late) / fps for number, late in enumerate(jitter)]
    assert taken(times, fps) == times


@settings(deadline=None)
@given(st.floats(0.05, 100), st.lists(st.floats(0, 3), min_size=1, max_size=300), st.floats(0, 1e6))
def test_never_more_than_the_limit_whenever_frames_come(fps: float, gaps: list[float], begin: float) -> None:
    frames = taken(list(accumulate(gaps, initial=begin)), fps)
    assert frames[0] == begin
    for first, one in enumerate(frames):
        # A frame may come half an interval early, one that was late be followed by one that is on time.
        assert all(
            count <= (last - one) * fps + 2.5 + 1e-6 for count, last in enumerate(frames[first:], start=1)
        )


@settings(deadline=None)
@given(st.floats(1, 30), st.floats(1, 1e5), st.floats(31, 60))
def test_a_clock_that_is_set_back_does_not_end_the_stream(limit: float, back: float, camera: float) -> None:
    times = steady(camera, 5, begin=2e5) + steady(camera, 5, begin=2e5 - back)
    assert len(taken(times, limit)) >= 2 * 5 * limit - 4


def test_another_rate_counts_from_now_on() -> None:
    limit = RateLimit(5)
    first = [time for time in steady(25, 10) if limit.takes(time)]
    limit.change(20)
    second = [time for time in steady(25, 10, begin=10) if limit.takes(time)]
    limit.change(None)
    third = [time for time in steady(25, 10, begin=20) if limit.takes(time)]
    assert [len(first), len(second), len(third)] == [pytest.approx(50, abs=1), pytest.approx(200, abs=1), 250]


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(UsageError, match=r"stream a: max_fps .*: must be more than 0"):
        Source(id="a", url="rtsp://host/a", live=True, max_fps=value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtspServer]:
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "clip.mp4", frames=100, bframes=0, gop=10)
    with rtsp_server(folder) as running:
        yield running


def reasons(listener: Listener) -> set[str]:
    return {event.reason for event in listener.events if isinstance(event, FramesDropped)}


def camera(server: RtspServer, max_fps: float | None) -> Source:
    return Source(id="cam", url=server.url("clip.mp4"), live=True, max_fps=max_fps)


def test_of_a_camera_with_25_frames_a_second_10_are_taken_and_the_rest_is_counted(server: RtspServer) -> None:
    listener = Listener()
    with SourcePool([camera(server, 10)], emit=listener):
        listener.wait(lambda: len(listener.seen.get("cam", [])) >= 21)
    seen = listener.seen["cam"][:21]
    gaps = np.diff([frame.index for frame in seen])
    assert set(gaps) == {2, 3}
    assert gaps.sum() == pytest.approx(50, abs=1), "20 intervals of 1/10 s"
    assert reasons(listener) == {"rate"}
    assert listener.decoded("cam") == pytest.approx(listener.seen["cam"][-1].index + 1, abs=15)
    assert listener.decoded("cam") > listener.seen["cam"][-1].index, "one is missing"


def test_a_change_of_the_rate_alone_keeps_the_connection(server: RtspServer) -> None:
    listener = Listener()
    with SourcePool([camera(server, 1)], emit=listener) as pool:
        listener.wait(lambda: listener.seen.get("cam"))
        (pid,) = worker_pids(os.getpid())
        pool.replace(camera(server, None))
        listener.wait(lambda: len(listener.seen["cam"]) >= 25)
        assert worker_pids(os.getpid()) == [pid]
    assert {frame.epoch for frame in listener.seen["cam"]} == {0}
    assert listener.states("cam") == ["connecting", "live", "ended"]
    ours = [frame.index for frame in listener.seen["cam"]][-20:]
    assert ours == list(range(ours[0], ours[0] + 20)), "every frame of the last ones"


def test_a_recording_gives_all_its_frames_and_one_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=30)
    listener = Listener()
    with SourcePool(resolve_sources([str(clip)], max_fps=1), emit=listener):
        listener.wait_for_end("clip")
    assert len(listener.seen["clip"]) == 30
    assert listener.dropped == 0
    (line,) = [record.getMessage() for record in caplog.records if "max_fps" in record.getMessage()]
    assert line.startswith("stream clip: max_fps is for live sources; all frames of a recording are taken")
