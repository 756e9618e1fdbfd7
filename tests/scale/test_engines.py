"""Recordings on several engines under one parent, which are killed and stopped."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.support.broker import RunningBroker, wait_for
from tests.support.engines import engine_pids, engines
from tests.support.program import read_results, read_video, run_program
from tests.support.reading import is_running
from tests.support.runs import lines_in, published_frames, run_here, without_clock, write_clips

FRAMES = (60, 40, 30, 50)
PATIENCE = 100.0
"""Seconds; much more than anything takes."""
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips") / "in", *FRAMES)


@pytest.fixture(scope="module")
def alone(clips: Path) -> Path:
    """Results and videos of a run on one engine that was left alone."""
    out = clips.parent / "out"
    out.mkdir()
    run_here(clips, results=out, video=out)
    return out


def to(out: Path) -> list[str]:
    return ["--results", f"{out}/", "-o", f"{out}/"]


def check_files_are_those_of_one_engine(out: Path, alone: Path, broker: RunningBroker) -> None:
    """Results, videos and what Redis has: nothing is missing, and nothing there twice."""
    assert {path.name for path in out.iterdir()} == {path.name for path in alone.iterdir()}
    for number, count in enumerate(FRAMES):
        name = f"c{number}"
        assert without_clock(out / f"{name}.ndjson") == without_clock(alone / f"{name}.ndjson")
        assert published_frames(broker, name) == list(range(count))
        video, expected = (read_video(folder / f"{name}.mp4") for folder in (out, alone))
        assert video.seconds == expected.seconds
        assert video.audio_packets == expected.audio_packets
        assert np.array_equal(video.first, expected.first)


def published_at(path: Path) -> list[float]:
    return [result["time"] + result["latency_ms"] / 1000 for result in read_results(path)]


def test_files_survive_the_death_of_either_engine(
    clips: Path, alone: Path, broker: RunningBroker, tmp_path: Path
) -> None:
    with engines(clips, *to(tmp_path), "--redis", broker.url, seconds=0.08) as program:
        wait_for(lambda: lines_in(tmp_path) >= 20, seconds=PATIENCE, what="results")
        first, second = engine_pids(program.pid)
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: len(engine_pids(program.pid)) == 2 and first not in engine_pids(program.pid))
        os.kill(second, signal.SIGKILL)
        _, said = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0, said
    check_files_are_those_of_one_engine(tmp_path, alone, broker)
    assert f"{sum(FRAMES)} frames," in said
    assert "engine 0 (cpu) died once, at last it was killed by SIGKILL" in said
    assert "engine 1 (cpu) died once" in said


def test_two_engines_do_twice_the_work_of_one(clips: Path, tmp_path: Path) -> None:
    """One engine does at most one picture in 50 ms: both together nearly two."""
    two = [clips / "c0.mp4", clips / "c3.mp4"]
    with engines(*two, "--results", f"{tmp_path}/", seconds=0.05) as program:
        assert program.wait(timeout=PATIENCE) == 0
    times = [published_at(tmp_path / f"{path.stem}.ndjson") for path in two]
    begin, end = max(t[0] for t in times), min(t[-1] for t in times)
    assert end - begin > 1, "both were at work"
    rate = sum(1 for of_file in times for t in of_file if begin <= t <= end) / (end - begin)
    assert rate > 1.7 / 0.05


def test_engines_end_with_their_parent_and_a_resumed_run_goes_on(
    clips: Path, alone: Path, broker: RunningBroker, tmp_path: Path
) -> None:
    with engines(clips, *to(tmp_path), "--redis", broker.url, seconds=0.02) as program:
        wait_for(lambda: lines_in(tmp_path) >= 20, seconds=PATIENCE, what="results")
        children = engine_pids(program.pid)
        program.kill()
        wait_for(lambda: not any(map(is_running, children)), what="the end of the engines")
    with engines(clips, *to(tmp_path), "--redis", broker.url, "--resume") as program:
        _, said = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0, said
    assert "results are from before" in said
    check_files_are_those_of_one_engine(tmp_path, alone, broker)


@pytest.mark.soak
@pytest.mark.parametrize("struck", [False, True], ids=["all well", "an engine is away"])
def test_a_stopped_run_finishes_its_files_and_is_gone_on_with(
    clips: Path, alone: Path, broker: RunningBroker, tmp_path: Path, struck: bool
) -> None:
    options = (clips, *to(tmp_path), "--redis", broker.url)
    with engines(*options, seconds=0.2 if struck else 0.05) as program:
        wait_for(lambda: lines_in(tmp_path) >= 4, seconds=PATIENCE, what="results")
        if struck:
            os.kill(engine_pids(program.pid)[0], signal.SIGKILL)
            wait_for(lambda: len(engine_pids(program.pid)) == 1, seconds=PATIENCE)
            wait_for(lambda: len(engine_pids(program.pid)) == 2, seconds=PATIENCE, what="its next process")
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=PATIENCE)
    assert program.returncode == 130, said
    assert not list(tmp_path.glob("*.ndjson.partial")) or struck
    assert struck or list(tmp_path.glob("*.unfinished")), "there is more to come of what was begun"
    assert ("died once" in said) == struck
    with engines(*options, "--resume") as program:
        _, said = program.communicate(timeout=PATIENCE)
    assert program.returncode == 0, said
    check_files_are_those_of_one_engine(tmp_path, alone, broker)


BAD = {
    "cpu,cuda:99": r"error: device 'cuda:99': this machine has \d+ CUDA devices",
    "cpu,tpu": r"error: .*model\.device: .*'tpu' is no device; allowed are auto, cpu, cuda, cuda:N",
}


@pytest.mark.parametrize("devices", BAD)
def test_a_device_that_is_not_there_is_told_before_anything_starts(
    clips: Path, tmp_path: Path, devices: str
) -> None:
    """By the real network's own check."""
    arguments = (clips, "--results", f"{tmp_path}/", "--device", devices, "--no-progress")
    done = run_program(*arguments)
    assert done.returncode == 2
    assert re.fullmatch(BAD[devices] + ".*\n", done.stderr)
    assert not list(tmp_path.iterdir())


def test_results_of_several_engines_cannot_share_standard_output(clips: Path) -> None:
    done = run_program(clips, "--results", "-", "--device", "cpu,cpu")
    assert done.returncode == 2
    assert done.stderr.startswith("error: results to standard output need one engine")
