"""A run over recorded files that is killed, and goes on later as if nothing had been."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.broker import running_broker, wait_for
from tests.support.program import STREET, read_results, read_video, running_program
from tests.support.program import run_program as run_real_program
from tests.support.reading import worker_pids
from tests.support.runs import (
    lines_in,
    published_frames,
    run_here,
    run_program,
    started,
    without_clock,
    write_clips,
)

FRAMES = (60, 90, 30)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips") / "in", *FRAMES)


@pytest.fixture(scope="module")
def undisturbed(clips: Path) -> Path:
    """Results and videos of a run that was left alone."""
    out = clips.parent / "out"
    out.mkdir()
    run_here(clips, results=out, video=out)
    return out


def kill_program(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def kill_worker(pid: int) -> None:
    wait_for(lambda: worker_pids(pid), what="a worker")  # of a resumed run it may not have started yet
    os.kill(min(worker_pids(pid)), signal.SIGKILL)


def strike(
    clips: Path, out: Path, *options: str, goals: Sequence[int], kill: Callable[[int], None] = kill_program
) -> None:
    """Let a run go on until its files have so many lines, and a moment longer; then strike."""
    to = ("--results", f"{out}/", "-o", f"{out}/", "--resume")
    with started(clips, *to, *options, seconds=0.02) as program:
        for goal in goals:
            wait_for(lambda goal=goal: lines_in(out) >= goal, seconds=90, what=f"{goal} results")
            time.sleep(random.Random(goal).random() * 0.2)
            kill(program.pid)
        _, stderr = program.communicate(timeout=60)
    assert "Traceback" not in stderr


def finish(clips: Path, out: Path, *options: str) -> str:
    done = run_program(clips, "--results", f"{out}/", "-o", f"{out}/", "--resume", *options)
    assert done.returncode == 0, done.stderr
    return done.stderr


def check_outputs(out: Path, undisturbed: Path, frames: Sequence[int] = FRAMES) -> None:
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in undisturbed.iterdir())
    for number, count in enumerate(frames):
        results = without_clock(out / f"c{number}.ndjson")
        assert results == without_clock(undisturbed / f"c{number}.ndjson")
        video, expected = (read_video(folder / f"c{number}.mp4") for folder in (out, undisturbed))
        assert video.seconds == expected.seconds
        assert len(video.seconds) == count
        assert video.audio_packets == expected.audio_packets


@pytest.mark.timeout(400)
def test_program_worker_and_broker_are_killed_and_nothing_is_lost_or_twice(
    clips: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with running_broker(tmp_path / "redis") as broker:
        redis = ("--redis", broker.url)

        def kill_broker_and_program(pid: int) -> None:
            broker.kill()
            time.sleep(0.3)
            kill_program(pid)
            broker.start()

        for goal, kill in ((20, kill_program), (55, kill_broker_and_program), (100, kill_worker)):
            strike(clips, out, *redis, goals=[goal], kill=kill)
        assert list(out.glob("*.partial")), "the file whose worker died is not finished"
        finish(clips, out, *redis)
        check_outputs(out, undisturbed)
        for number, count in enumerate(FRAMES):
            assert published_frames(broker, f"c{number}") == list(range(count))
    ids = [i["id"] for r in read_results(out / "c1.ndjson") for i in r["instances"]]
    assert len({i for i in ids if i is not None}) >= 4, "there were tracks to be continued"


def test_a_file_is_finished_when_redis_has_all_of_it(tmp_path: Path) -> None:
    clips, out = write_clips(tmp_path / "in", 12), tmp_path / "out"
    options = ("--results", f"{out}/", "--resume", "--redis")
    with running_broker(tmp_path / "redis") as broker:
        with started(clips, *options, broker.url, seconds=0.05) as program:
            wait_for(lambda: lines_in(out) >= 2, what="the first results")
            broker.kill()
            wait_for(lambda: lines_in(out) == 12, what="all results in the file")
            time.sleep(0.3)
            kill_program(program.pid)
            program.communicate(timeout=60)
        assert [path.name for path in out.iterdir()] == ["c0.ndjson.partial"]
        broker.start()
        done = run_program(clips, *options, broker.url)
        assert done.returncode == 0, done.stderr
        assert published_frames(broker, "c0") == list(range(12))
    assert [path.name for path in out.iterdir()] == ["c0.ndjson"]


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["program", "worker", "broker"])
def test_ten_kills(tmp_path: Path, victim: str) -> None:
    """At random moments, each of which strikes. For the broker, which comes back, the run waits."""
    frames, alone, out = (600, 30), tmp_path / "alone", tmp_path / "out"
    clips = write_clips(tmp_path / "in", *frames)
    alone.mkdir()
    run_here(clips, results=alone, video=alone)
    # A worker is ahead of the results by 20 frames, which are still finished when it is killed.
    draw = random.Random(victim)
    goals = [30 + 40 * number + draw.randrange(15) for number in range(10)]
    with running_broker(tmp_path / "redis") as broker:
        redis = ("--redis", broker.url)

        def kill_broker(_: int) -> None:
            broker.kill()
            time.sleep(0.3)
            broker.start()

        if victim == "broker":
            strike(clips, out, *redis, goals=goals, kill=kill_broker)
        for goal in goals if victim != "broker" else []:
            kill = {"program": kill_program, "worker": kill_worker}[victim]
            strike(clips, out, *redis, goals=[goal], kill=kill)
        finish(clips, out, *redis)
        check_outputs(out, alone, frames)
        for number, count in enumerate(frames):
            assert published_frames(broker, f"c{number}") == list(range(count))


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_ten_kills_with_the_bundled_weights(tmp_path: Path) -> None:
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    part = ("--end", "3", "--resume")
    assert run_real_program(STREET, "--results", f"{alone}/", *part, timeout=600).returncode == 0
    expected = without_clock(alone / "street.ndjson")
    for goal in sorted(random.Random(1).sample(range(1, len(expected)), 10)):
        with running_program(STREET, "--results", f"{killed}/", "-o", f"{killed}/", *part) as program:
            wait_for(lambda goal=goal: lines_in(killed) >= goal or program.poll() is not None, seconds=600)
            time.sleep(random.Random(goal).random())
    done = run_real_program(STREET, "--results", f"{killed}/", "-o", f"{killed}/", *part, timeout=600)
    assert done.returncode == 0, done.stderr
    assert without_clock(killed / "street.ndjson") == expected
    assert len(read_video(killed / "street.mp4").seconds) == len(expected)


@pytest.mark.timeout(200)
def test_a_stopped_run_goes_on(clips: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Ctrl-C gives the files their names although they are not whole; a mark beside them says so."""
    out = tmp_path / "out"
    strike(clips, out, goals=[30], kill=lambda pid: os.kill(pid, signal.SIGINT))
    marks = [path.name for path in out.glob("*.unfinished")]
    assert marks
    assert not list(out.glob("*.partial"))
    stopped = out / marks[0].removesuffix(".unfinished")
    count = len(read_results(stopped))
    assert len(read_video(stopped.with_suffix(".mp4")).seconds) == count > 0
    assert f"{stopped.stem}: {count} results are from before" in finish(clips, out)
    check_outputs(out, undisturbed)
