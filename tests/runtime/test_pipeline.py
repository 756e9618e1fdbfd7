"""How the stages hold together, and what happens when one breaks down."""

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from streamseg.errors import OutputError, SourceError
from streamseg.outputs import MemoryOutput, NdjsonOutput
from streamseg.runtime.pipeline import Pipeline
from streamseg.sources import Source, resolve_sources
from streamseg.types import Frame, FrameResult, Instances, Output
from tests.support.broker import wait_for
from tests.support.descriptors import said_by
from tests.support.media import write_clip
from tests.support.moving import Moving
from tests.support.runs import Run, SilentOutput, resources, taken_since
from tests.support.servers import rtsp_server
from tests.support.synthetic import SyntheticModel


class BreakingOutput(SilentOutput):
    """Fails at its second result."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        self.written += 1
        if self.written == 2:
            raise OutputError("the disk is full")


def clip(folder: Path, *, frames: int = 6, name: str = "clip") -> Path:
    return write_clip(folder / f"{name}.mp4", frames=frames, width=64, height=48)


def run_to_end(pipeline: Pipeline) -> None:
    with pipeline:
        pipeline.join()


def make(outputs: Sequence[Output], *sources: Path) -> Pipeline:
    return Pipeline(resolve_sources([str(s) for s in sources]), Moving(), outputs, max_batch=2)


def test_a_failing_output_does_not_stop_the_others(tmp_path: Path) -> None:
    memory = MemoryOutput()
    pipeline = make([BreakingOutput(), memory], clip(tmp_path))
    run_to_end(pipeline)
    frames = [result.frame for result in iter(memory.get, None)]
    assert frames == list(range(6))
    assert [str(e) for e in pipeline.stats.errors] == ["the disk is full"]


def test_without_any_output_left_the_run_ends(tmp_path: Path) -> None:
    pipeline = make([BreakingOutput()], clip(tmp_path, frames=400))
    run_to_end(pipeline)
    assert pipeline.stats.frames < 400
    assert [str(e) for e in pipeline.stats.errors] == ["the disk is full"]


@pytest.mark.parametrize("stage", ["submit", "wait", "finish"])
def test_a_broken_model_ends_the_run_with_its_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Moving, stage, explode)
    pipeline = make([NdjsonOutput(f"{tmp_path}/a.ndjson")], clip(tmp_path, frames=50))
    run_to_end(pipeline)
    with pytest.raises(RuntimeError, match="out of memory"):
        pipeline.raise_first_error()
    assert not (tmp_path / "a.ndjson").exists()


def test_a_slow_reader_makes_a_recorded_file_wait(tmp_path: Path) -> None:
    memory = MemoryOutput(size=1)
    pipeline = make([memory], clip(tmp_path, frames=40))
    runner = threading.Thread(target=run_to_end, args=(pipeline,))
    runner.start()
    first = memory.get()
    # One result in our hands, one in the queue, one being written: the rest is still to be decoded.
    assert first is not None
    assert pipeline.stats.streams["clip"].received < 40
    rest = list(iter(memory.get, None))
    runner.join()
    assert [first.frame, *(r.frame for r in rest)] == list(range(40))


def test_results_of_several_files_come_in_order(tmp_path: Path) -> None:
    memory = MemoryOutput()
    clips = [clip(tmp_path, frames=n + 3, name=f"c{n}") for n in range(4)]
    pipeline = make([memory], *clips)
    run_to_end(pipeline)
    seen: dict[str, list[int]] = {}
    for result in iter(memory.get, None):
        seen.setdefault(result.stream, []).append(result.frame)
    assert seen == {f"c{n}": list(range(n + 3)) for n in range(4)}


def test_a_missing_file_is_an_error_of_its_stream_alone(tmp_path: Path) -> None:
    memory = MemoryOutput()
    pipeline = make([memory], tmp_path / "nowhere.mp4", clip(tmp_path))
    run_to_end(pipeline)
    streams = pipeline.stats.streams
    assert isinstance(streams["nowhere"].error, SourceError)
    assert (streams["clip"].error, streams["clip"].results) == (None, 6)


def test_stopping_finishes_what_was_decoded(tmp_path: Path) -> None:
    output = tmp_path / "a.ndjson"
    pipeline = make([NdjsonOutput(str(output))], clip(tmp_path, frames=500))
    stream = pipeline.stats.streams["clip"]
    with pipeline:
        wait_for(lambda: stream.received > 0, what="frames")
        pipeline.stop()
        pipeline.join()
    assert 0 < stream.results == stream.received - stream.dropped["given up"] < 500
    assert len(output.read_text().splitlines()) == stream.results


class ChoosyOutput(SilentOutput):
    """Fails at the first result of the stream "a", once; keeps the numbers of its other frames."""

    def __init__(self) -> None:
        self.failed = False
        self.frames: list[int] = []

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        if result.stream == "a" and not self.failed:
            self.failed = True
            raise OutputError("not yet")
        if result.stream == "a":
            self.frames.append(result.frame)


def test_a_stream_that_is_added_again_is_written_though_its_output_had_failed(tmp_path: Path) -> None:
    output, path = ChoosyOutput(), str(clip(tmp_path))
    long = Source(id="long", url=str(clip(tmp_path, frames=400, name="long")), live=False)
    sources = [long, Source(id="a", url=path, live=False)]
    with Run(sources, model=Moving(0.01), outputs=[output]) as run:
        run.wait(lambda: run.stream("a").over and run.pipeline.stats.output_errors, "the first end of a")
        assert output.frames == []
        assert run.pipeline.add(Source(id="a", url=path, live=False))
        run.wait(lambda: len(output.frames) == 6, "what is read of a again")
        run.pipeline.remove("long")
    assert output.frames == list(range(6))


class StuckOutput(SilentOutput):
    """Writes nothing before it is let go; keeps a backlog of one result for each stream."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        assert self.let_go.wait(60)


def test_what_an_output_dropped_of_a_former_stream_is_counted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamseg.outputs.backlog.RESULTS_KEPT", 1)
    output, long = StuckOutput(), str(clip(tmp_path, frames=400, name="long"))
    with rtsp_server(clip(tmp_path, frames=50, name="camera").parent) as server:
        camera = Source(id="camera", url=server.url("camera.mp4"), live=True)
        sources = [Source(id="long", url=long, live=False), camera]
        with Run(sources, model=Moving(0.01), outputs=[output]) as run:
            run.wait_for_results("camera", 6)
            run.pipeline.remove("camera")
            run.wait(lambda: run.stream("camera").over, "the end of the camera")
            dropped = run.stream("camera").results - 2
            assert run.pipeline.add(Source(id="camera", url=str(clip(tmp_path)), live=False))
            run.wait(lambda: run.stream("camera").over, "the end of the recording")
            output.let_go.set()
        assert run.stream("camera").dropped["by StuckOutput"] >= dropped > 0


def test_pipelines_that_are_never_entered_take_neither_threads_nor_descriptors(tmp_path: Path) -> None:
    path = clip(tmp_path)
    before = resources()
    pipelines = [make([MemoryOutput(), NdjsonOutput(f"{tmp_path}/{k}.ndjson")], path) for k in range(10)]
    assert taken_since(before) == {}
    with pipelines[0]:
        pipelines[0].join()
    del pipelines
    wait_for(lambda: taken_since(before) == {}, what="everything to be given back")


def test_a_failing_output_costs_the_others_nothing_however_many_frames_come_back_at_once(
    tmp_path: Path,
) -> None:
    memory = MemoryOutput(size=10_000)
    sources = resolve_sources([str(clip(tmp_path, frames=1500))])
    pipeline = Pipeline(sources, Moving(), [BreakingOutput(), memory], max_batch=160)
    run_to_end(pipeline)
    assert [result.frame for result in iter(memory.get, None)] == list(range(1500))
    assert [str(error) for error in pipeline.stats.errors] == ["the disk is full"]


AT_THE_LIMIT = """
import sys, threading
from unittest.mock import patch
from streamseg import run
from streamseg.runtime import build
from tests.support.descriptors import at_the_limit
from tests.support.moving import Moving

with patch.object(build, "load_model", lambda *_, **__: Moving()):
    print(len(list(run(sys.argv[1]))))
    with at_the_limit():
        try:
            print(len(list(run(sys.argv[1]))))
        except OSError as error:
            print(error.strerror)
print([thread.name for thread in threading.enumerate()])
"""


def test_a_run_that_cannot_begin_says_so_and_leaves_no_thread(tmp_path: Path) -> None:
    """A thread that waits for batches would keep the interpreter from its end."""
    assert said_by(AT_THE_LIMIT, clip(tmp_path, frames=5)) == "5\nToo many open files\n['MainThread']\n"


class Unheard(SilentOutput):
    """Cannot be told of a stream."""

    def __init__(self, stream: str) -> None:
        self.stream, self.written = stream, Counter[str]()

    def report(self, stream: str, **fields: str | float) -> None:
        if stream == self.stream and "state" in fields:
            raise ValueError("no such column")

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        self.written[result.stream] += 1


def test_an_output_that_cannot_be_told_of_a_stream_ends_nothing_else(tmp_path: Path) -> None:
    for name in ("a", "b"):
        clip(tmp_path, frames=20, name=name)
    unheard, other = Unheard("a"), Unheard("")
    pipeline = Pipeline(resolve_sources([str(tmp_path)]), SyntheticModel(), [unheard, other])
    run_to_end(pipeline)
    pipeline.raise_first_error()
    assert [str(error) for error in pipeline.stats.errors] == ["Unheard: ValueError: no such column"] * 2
    assert dict(other.written) == {"a": 20, "b": 20}
    assert unheard.written["b"] == 20
