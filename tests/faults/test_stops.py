"""Stopping: within ten seconds, whatever is slow, stuck or gone."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streamseg.outputs import MemoryOutput, NdjsonOutput
from streamseg.runtime import shutdown
from streamseg.runtime.pipeline import Pipeline
from streamseg.sources import resolve_sources
from streamseg.types import Frame, FrameResult, Instances
from tests.support.broker import running_broker, wait_for
from tests.support.media import write_clip
from tests.support.moving import Moving
from tests.support.program import read_results, read_video
from tests.support.runs import SilentOutput, lines_in, started

LIMIT = 11.0
"""Ten seconds, and one for a busy machine."""


class StuckOutput(SilentOutput):
    """Does not come back from its first result."""

    def __init__(self) -> None:
        self.entered, self.let_go = threading.Event(), threading.Event()

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        self.entered.set()
        self.let_go.wait(60)


def stop_with_a_dead_broker(
    tmp_path: Path, number: signal.Signals, *options: str, seconds: float
) -> tuple[str, list[dict]]:
    """Stop a run whose broker has just died; returns what it said and the results it kept."""
    clip, out = write_clip(tmp_path / "a.mp4", frames=200, width=96, height=64), tmp_path / "out"
    with running_broker(tmp_path / "redis") as broker:
        outputs = ("-o", f"{out}/", "--results", f"{out}/", "--redis", broker.url)
        with started(clip, *outputs, *options, seconds=seconds) as program:
            wait_for(lambda: lines_in(out) >= 2, seconds=90, what="results")
            broker.kill()
            began = time.monotonic()
            program.send_signal(number)
            _, stderr = program.communicate(timeout=60)
            took = time.monotonic() - began
    assert program.returncode == 128 + number, stderr
    assert took < LIMIT, stderr
    results = read_results(out / "a.ndjson")
    assert [r["frame"] for r in results] == list(range(len(results)))
    assert len(read_video(out / "a.mp4").seconds) == len(results) >= 2
    assert (out / "a.ndjson.unfinished").exists()
    return stderr, results


@pytest.mark.timeout(200)
def test_what_was_decoded_is_finished(tmp_path: Path) -> None:
    stderr, results = stop_with_a_dead_broker(tmp_path, signal.SIGTERM, seconds=0.15)
    assert f"{len(results)} frames" in stderr
    assert "given up" not in stderr
    assert "results are lost" in stderr, "by Redis, which was gone"


@pytest.mark.timeout(200)
def test_what_a_slow_model_cannot_finish_is_given_up_and_counted(tmp_path: Path) -> None:
    """A batch takes 9 s."""
    stderr, results = stop_with_a_dead_broker(
        tmp_path, signal.SIGINT, "--set", "batching.max_batch=2", seconds=4.5
    )
    assert len(results) == 2
    assert re.search(r"a: dropped \d+ given up", stderr)


def stopped(pipeline: Pipeline, when: Callable[[], object]) -> float:
    """Run until ``when`` holds; returns how long stopping took, in seconds."""
    with pipeline:
        wait_for(when)
        began = time.monotonic()
        pipeline.stop()
        pipeline.join()
    return time.monotonic() - began


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """All limits are as far apart as they are, but a fifth as long: the program has the real ones, above."""
    for name in ("_SUBMIT_SECONDS", "_MODEL_SECONDS", "_OUTPUT_SECONDS"):
        monkeypatch.setattr(shutdown, name, getattr(shutdown, name) / 5)


@pytest.mark.usefixtures("impatient")
def test_a_stuck_output_is_given_up_and_the_others_are_finished(tmp_path: Path) -> None:
    clip, stuck = write_clip(tmp_path / "a.mp4", frames=100, width=96, height=64), StuckOutput()
    results = NdjsonOutput(str(tmp_path / "a.ndjson"))
    pipeline = Pipeline(resolve_sources([str(clip)]), Moving(), [stuck, results], max_batch=2)
    assert stopped(pipeline, stuck.entered.is_set) < LIMIT
    stuck.let_go.set()
    (error,) = pipeline.stats.errors
    assert "StuckOutput could not finish in time" in str(error)
    assert len(read_results(tmp_path / "a.ndjson")) == pipeline.stats.frames > 0


@pytest.mark.usefixtures("impatient")
def test_a_file_that_was_read_to_its_end_but_not_segmented_is_unfinished(tmp_path: Path) -> None:
    """All 6 frames are decoded at once; the model takes 2 s for each two of them."""
    clip, results = write_clip(tmp_path / "a.mp4", frames=6, width=96, height=64), tmp_path / "a.ndjson"
    model = Moving(seconds=1.0)
    pipeline = Pipeline(resolve_sources([str(clip)]), model, [NdjsonOutput(str(results))], max_batch=2)
    assert stopped(pipeline, lambda: pipeline.stats.streams["a"].ended) < LIMIT
    assert pipeline.stats.streams["a"].dropped["given up"] == 6
    assert read_results(results) == []
    assert results.with_name("a.ndjson.unfinished").exists()


def test_stopping_twice_and_after_the_end(tmp_path: Path) -> None:
    clip, memory = write_clip(tmp_path / "a.mp4", frames=5), MemoryOutput()
    pipeline = Pipeline(resolve_sources([str(clip)]), Moving(), [memory], max_batch=2)
    with pipeline:
        pipeline.join()
        pipeline.stop()
        pipeline.stop()
    assert pipeline.stats.frames == 5
    assert not pipeline.stats.streams["a"].stopped


def test_nothing_to_do_ends_at_once() -> None:
    with Pipeline([], Moving(), []) as pipeline:
        pipeline.join()
    assert pipeline.stats.frames == 0
