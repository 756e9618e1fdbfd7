"""A stage that fails: its first error comes out, and nothing hangs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamseg.errors import RunError
from streamseg.inference import OomGuard
from streamseg.outputs import MemoryOutput
from streamseg.runtime.pipeline import Pipeline
from streamseg.sources import resolve_sources
from streamseg.types import FrameResult, Instances, StreamInfo
from tests.support.media import write_clip
from tests.support.moving import Moving


class SmallDevice(Moving):
    """Has no room for more than a number of pictures, in one of its two steps."""

    def __init__(self, room: int, *, step: str = "submit") -> None:
        super().__init__()
        self.room, self.step = room, step
        self.batches: list[int] = []

    def submit(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        self._fit("submit", len(images))
        self.batches.append(len(images))
        return super().submit(images)

    def wait(self, ticket: list[NDArray[np.uint8]]) -> None:
        self._fit("wait", len(ticket))
        super().wait(ticket)

    def _fit(self, step: str, count: int) -> None:
        if step == self.step and count > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def pipeline_of(model: Moving, clip: Path, **options: Any) -> tuple[Pipeline, MemoryOutput]:
    memory = MemoryOutput(size=1000)
    return Pipeline(resolve_sources([str(clip)]), OomGuard(model), [memory], **options), memory


def run(pipeline: Pipeline) -> None:
    with pipeline:
        pipeline.join()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "a.mp4", frames=50, width=96, height=64)


@pytest.mark.parametrize("step", ["submit", "wait"])
@pytest.mark.parametrize("room", [1, 3])
def test_without_room_for_a_batch_it_goes_on_with_halves(
    clip: Path, step: str, room: int, caplog: pytest.LogCaptureFixture
) -> None:
    model = SmallDevice(room, step=step)
    pipeline, memory = pipeline_of(model, clip, max_wait=5.0)
    run(pipeline)
    results = list(iter(memory.get, None))
    assert pipeline.stats.errors == []
    assert [r.frame for r in results] == list(range(50))
    alone, expected = pipeline_of(Moving(), clip)
    run(alone)
    assert [r.instances for r in results] == [r.instances for r in iter(expected.get, None)]
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == len(set(warnings)) == {1: 3, 3: 2}[room], "8 to 4 to 2 (to 1), each told once"
    assert "out of device memory with 8 pictures at a time, going on with 4" in warnings[0]
    assert max(model.batches[-5:]) <= room


@pytest.mark.parametrize("step", ["submit", "wait"])
def test_without_room_for_one_picture_the_run_ends_with_one_line(clip: Path, step: str) -> None:
    pipeline, _ = pipeline_of(SmallDevice(0, step=step), clip)
    run(pipeline)
    with pytest.raises(RunError, match="does not hold a single picture of 96x64: stop other programs"):
        pipeline.raise_first_error()


class Breaking(Moving):
    """Breaks down at its third batch."""

    def __init__(self, step: str) -> None:
        super().__init__()
        self.step, self.count = step, 0

    def submit(self, images: Sequence[NDArray[np.uint8]]) -> Any:
        self._break("submit")
        return super().submit(images)

    def wait(self, ticket: list[NDArray[np.uint8]]) -> None:
        self._break("wait")
        super().wait(ticket)

    def finish(self, ticket: list[NDArray[np.uint8]], k: int) -> Instances:
        self._break("finish")
        return super().finish(ticket, k)

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        if self.step == "canvas":
            raise RuntimeError("canvas broke")
        return super().canvas(height, width)

    def _break(self, step: str) -> None:
        if step == self.step:
            self.count += 1
            if self.count == 3:
                raise RuntimeError(f"{step} broke")


@pytest.mark.parametrize("step", ["submit", "wait", "finish"])
def test_a_broken_model(clip: Path, step: str) -> None:
    pipeline, _ = pipeline_of(Breaking(step), clip, max_batch=2)
    run(pipeline)
    with pytest.raises(RuntimeError, match=f"{step} broke"):
        pipeline.raise_first_error()


def test_a_model_that_cannot_tell_its_input_size(clip: Path) -> None:
    pipeline, _ = pipeline_of(Breaking("canvas"), clip)
    run(pipeline)
    (error,) = pipeline.stats.errors
    assert "canvas broke" in str(error)


def breaking_at(kind: type) -> Callable[[StreamInfo | FrameResult], None]:
    def observe(event: StreamInfo | FrameResult) -> None:
        if isinstance(event, kind):
            raise RuntimeError(f"no {kind.__name__}, please")

    return observe


def test_a_broken_observer_of_results(clip: Path) -> None:
    pipeline, _ = pipeline_of(Moving(), clip, observe=breaking_at(FrameResult))
    run(pipeline)
    with pytest.raises(RuntimeError, match="no FrameResult, please"):
        pipeline.raise_first_error()


def test_a_broken_observer_of_streams(clip: Path) -> None:
    pipeline, _ = pipeline_of(Moving(), clip, observe=breaking_at(StreamInfo))
    run(pipeline)
    (error,) = pipeline.stats.errors
    assert "no StreamInfo, please" in str(error)


def test_a_broken_tracker(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("lost track")

    monkeypatch.setattr("streamseg.runtime.tracking.Tracker.update", explode)
    pipeline, _ = pipeline_of(Moving(), clip)
    run(pipeline)
    with pytest.raises(RuntimeError, match="lost track"):
        pipeline.raise_first_error()
