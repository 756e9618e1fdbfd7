"""What fault tests have in common: a pipeline here or the program beside, on models that only pretend."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest.mock import patch

import msgspec

from streamseg.config import parse_config
from streamseg.runtime import build
from streamseg.runtime.build import build_pipeline
from streamseg.runtime.pipeline import Pipeline
from streamseg.runtime.stats import StreamStats
from streamseg.sources import Backoff, Source, Timing
from streamseg.types import (
    Frame,
    FrameResult,
    Instances,
    Model,
    Output,
    StreamInfo,
    StreamState,
    StreamWriter,
)
from tests.support.broker import RunningBroker, wait_for
from tests.support.media import write_clip
from tests.support.moving import Moving
from tests.support.program import ROOT, read_results, run_main
from tests.support.reading import worker_pids
from tests.support.synthetic import SyntheticModel

QUICK = Backoff(first=0.1, longest=0.4)
PATIENCE = 40.0
"""Seconds a test waits for something that must happen; much more than it takes."""


class Run:
    """A pipeline that runs from entering to leaving the context; every result and opening is kept."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        model: Model[Any] | None = None,
        outputs: Sequence[Output] = (),
        backoff: Backoff = QUICK,
        timing: Timing | None = None,
        max_batch: int = 8,
    ) -> None:
        self.results: dict[str, list[FrameResult]] = {}
        self.infos: dict[str, list[StreamInfo]] = {}
        self.model: Any = model or SyntheticModel()
        self.pipeline = Pipeline(
            sources,
            self.model,
            outputs,
            max_batch=max_batch,
            track=False,
            observe=self._observe,
            backoff=backoff,
            timing=timing,
        )

    def _observe(self, event: StreamInfo | FrameResult) -> None:
        if isinstance(event, FrameResult):
            self.results.setdefault(event.stream, []).append(event)
        else:
            self.infos.setdefault(event.stream, []).append(event)

    def __enter__(self) -> Run:
        self.pipeline.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pipeline.stop()
        self.pipeline.join()
        self.pipeline.__exit__(kind, error, trace)
        self.pipeline.raise_first_error()

    def stream(self, name: str) -> StreamStats:
        return self.pipeline.stats.streams[name]

    def wait_for_state(self, state: StreamState, *names: str) -> None:
        self.wait(lambda: all(self.stream(name).state is state for name in names), f"{state} of {names}")

    def wait_for_results(self, name: str, more: int, *, epoch: int | None = None) -> None:
        """Until so many more results (of an epoch) have come than now."""

        def count() -> int:
            results = list(self.results.get(name, []))
            return len([r for r in results if epoch is None or r.epoch == epoch])

        wanted = count() + more
        self.wait(lambda: count() >= wanted, f"{more} results of {name}")

    @staticmethod
    def wait(condition: Callable[[], object], what: str) -> None:
        wait_for(condition, seconds=PATIENCE, what=what)

    def check_counts(self) -> None:
        """After the end: every frame that was decoded has a result or was counted as dropped."""
        for name, stats in self.pipeline.stats.streams.items():
            frames = [result.frame for result in self.results.get(name, [])]
            assert frames == sorted(set(frames))
            assert stats.results == len(frames)
            assert not frames or frames[-1] + 1 == len(frames) + stats.dropped.total(), (name, stats)


def own_workers() -> list[int]:
    return worker_pids(os.getpid())


def resources(pid: int | None = None) -> dict[str, int]:
    """File descriptors, threads and children of a process, and its mappings of frame rings."""
    home = Path(f"/proc/{pid or os.getpid()}")
    return {
        "fds": len(list((home / "fd").iterdir())),
        "threads": len(list((home / "task").iterdir())),
        "workers": len(worker_pids(pid or os.getpid())),
        "rings": (home / "maps").read_text().count("memfd:streamseg-ring"),
    }


def taken_since(before: dict[str, int]) -> dict[str, int]:
    """How much of each resource this process has taken since; what it gave back does not count."""
    return {name: more for name, now in resources().items() if (more := now - before[name]) > 0}


def command(*arguments: str | Path, seconds: float = 0.0) -> list[str]:
    """``seconds`` for each picture."""
    program = [sys.executable, "-m", "tests.support.fake_program", "run"]
    return [*program, *map(str, arguments), *_options(seconds)]


def _options(seconds: float) -> list[str]:
    return ["--weights", str(seconds), "--no-progress"]


def run_program(*arguments: str | Path, seconds: float = 0.0) -> subprocess.CompletedProcess[str]:
    """The program on :class:`Moving` to its end, in this process; ``seconds`` for each picture."""
    with patch("streamseg.inference.OomGuard", Moving):
        return run_main("run", *arguments, *_options(seconds))


@contextmanager
def started(*arguments: str | Path, seconds: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    """A running program; it is killed if the test ends before it."""
    with subprocess.Popen(
        command(*arguments, seconds=seconds), cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def write_clips(folder: Path, *frames: int) -> Path:
    """A folder with a clip of each length, called c0, c1, …; the first one has sound."""
    folder.mkdir()
    for number, count in enumerate(frames):
        path = folder / f"c{number}.mp4"
        sound = 0.0 if number else count / 25
        write_clip(path, frames=count, width=96, height=64, first_number=100 * number, sound=sound)
    return folder


def without_clock(path: Path) -> list[dict[str, Any]]:
    """Results of a file but for what differs from run to run."""
    return [{k: v for k, v in r.items() if k not in {"time", "latency_ms"}} for r in read_results(path)]


def lines_in(folder: Path) -> int:
    """Results in all files of a folder, finished or not."""
    count = 0
    for path in folder.glob("*.ndjson*"):
        with suppress(FileNotFoundError):  # it gets its name just now, or was only tried
            count += path.read_bytes().count(b"\n")
    return count


def run_here(
    *sources: str | Path,
    results: Path | None = None,
    video: Path | None = None,
    redis: str | None = None,
    seconds: float = 0.0,
    resume: bool = False,
    model: type[Moving] = Moving,
    **part: Any,
) -> Pipeline:
    """Run in this process to the end; folders as outputs end in a slash."""
    places = (("ndjson", "path", results), ("video", "path", video), ("redis", "url", redis))
    content = {
        "streams": [{"url": str(source)} | part for source in sources],
        "model": {"weights": str(seconds)},
        "outputs": [{"type": kind, key: str(place)} for kind, key, place in places if place is not None],
    }
    with patch("streamseg.inference.OomGuard", model):
        pipeline = build_pipeline(parse_config(content, where="test"), resume=resume)
    with pipeline:
        pipeline.join()
    pipeline.raise_first_error()
    return pipeline


def published(broker: RunningBroker, stream: str) -> list[FrameResult]:
    """All results of a stream that a broker has, oldest first."""
    with broker.client() as client:
        entries = client.xrange(f"streamseg:{{{stream}}}:results")
    return [msgspec.json.decode(fields[b"result"], type=FrameResult) for _, fields in entries]


def published_frames(broker: RunningBroker, stream: str) -> list[int]:
    return [result.frame for result in published(broker, stream)]


class SilentOutput(Output, StreamWriter):
    """An output that is its own writer and does nothing, for tests to fill in what matters to them."""

    def open(self, info: StreamInfo) -> StreamWriter:
        return self

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None: ...


LEFT_HALF = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
WATCHED = {
    "zones": {"left": {"polygon": LEFT_HALF, "dwell": 0.2}},
    "lines": {"middle": {"points": [[0.5, 0], [0.5, 1]]}},
}


def run_watched(
    clip: Path,
    *,
    outputs: Sequence[dict[str, Any]] = (),
    rules: dict[str, Any] = WATCHED,
    observe: Callable[[StreamInfo | FrameResult], None] = lambda _: None,
    **more: Any,
) -> list[dict[str, Any]]:
    """Run a clip on :class:`Moving`; the results as they are published.

    ``rules`` are keys of the stream: by default there is a zone and a line. ``more``: of the configuration.
    """
    content = {"streams": [{"id": "cam", "url": str(clip), **rules}], "outputs": list(outputs), **more}
    results: list[dict[str, Any]] = []

    def keep(event: StreamInfo | FrameResult) -> None:
        observe(event)
        if isinstance(event, FrameResult):
            results.append(msgspec.to_builtins(event))

    with patch.object(build, "load_model", lambda *_, **__: Moving()):
        pipeline = build_pipeline(parse_config(content, where="test"), observe=keep)
    with pipeline:
        pipeline.join()
    assert not pipeline.stats.output_errors
    return json.loads(json.dumps(results))  # type: ignore[no-any-return]


def events_of(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """All events, in order."""
    return [event for result in results for event in result.get("events", ())]
