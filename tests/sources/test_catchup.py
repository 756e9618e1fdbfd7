"""A camera that sends faster than it is read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from streamseg.sources import Source
from streamseg.sources.decode import VideoReader
from streamseg.sources.integrity import CatchUp
from tests.support.media import read_counter, write_clip
from tests.support.servers import rtsp_server


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("waited", [0.001, 0.03])
def test_whoever_waits_for_the_camera_keeps_up(waited: float) -> None:
    clock = Clock()
    catch_up = CatchUp(clock=clock)
    for _ in range(500):
        clock.now += 0.04
        assert catch_up.wants(waited=waited, is_keyframe=False)


def test_what_has_piled_up_is_passed_over_up_to_a_key_frame() -> None:
    clock = Clock()
    catch_up = CatchUp(clock=clock)
    wanted = []
    for _ in range(40):
        clock.now += 0.0625
        wanted.append(catch_up.wants(waited=0.0, is_keyframe=False))
    assert wanted.index(False) == 31, "after 2 s"
    assert not any(wanted[31:])
    assert not catch_up.wants(waited=0.0, is_keyframe=True), "an old key frame"
    assert not catch_up.wants(waited=0.03, is_keyframe=False), "a fresh frame, but not to be decoded"
    assert catch_up.wants(waited=0.03, is_keyframe=True)
    assert catch_up.wants(waited=0.03, is_keyframe=False)


def test_a_reader_at_half_the_speed_of_the_camera_does_not_fall_behind(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", frames=250, bframes=0, gop=10)
    alive: list[float] = []
    with rtsp_server(tmp_path) as server:
        source = Source(id="cam", url=server.url("clip.mp4"), live=True)
        with VideoReader(source, alive=lambda: alive.append(time.monotonic()), patience=0.5) as reader:
            lags, offsets, began = [], set(), 0.0
            for index, frame, ticks in reader.selected():
                now = time.monotonic()
                seconds = float(ticks * reader.facts.time_base)
                began = began or now - seconds
                lags.append(now - began - seconds)
                offsets.add((index - read_counter(frame.to_ndarray(format="rgb24"))) % 250)
                time.sleep(0.08)
                if now - began > 6:
                    break
    assert max(lags) < 2.0, "half of the 6 s would be 3"
    assert len(offsets) == 1, "the frames passed over have their numbers"
    assert index > 1.5 * len(lags)
    assert len(alive) > len(lags), "passing over is a sign of life"
