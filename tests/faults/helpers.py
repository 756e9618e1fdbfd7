"""A pipeline over real cameras with a model that only sleeps, and what a test wants to know of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from streamseg.pipeline import Pipeline
from streamseg.sources import Retry, Source, Timing
from streamseg.summary import StreamSummary
from streamseg.types import FrameResult, Output, StreamInfo, StreamState
from tests.broker import wait_for
from tests.sources.helpers import worker_pids
from tests.synthetic import SyntheticModel

QUICK = Retry(first=0.1, longest=0.4)
PATIENCE = 40.0
"""Seconds a test waits for something that must happen; much more than it takes."""


class Run:
    """Runs from entering to leaving the context; every result and opening is kept."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        model: SyntheticModel | None = None,
        outputs: Sequence[Output] = (),
        retry: Retry = QUICK,
        timing: Timing | None = None,
        max_batch: int = 8,
    ) -> None:
        self.results: dict[str, list[FrameResult]] = {}
        self.infos: dict[str, list[StreamInfo]] = {}
        self.model = model or SyntheticModel()
        self.pipeline = Pipeline(
            sources,
            self.model,
            outputs,
            max_batch=max_batch,
            track=False,
            observe=self._observe,
            retry=retry,
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

    def stream(self, name: str) -> StreamSummary:
        return self.pipeline.summary.streams[name]

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
        for name, summary in self.pipeline.summary.streams.items():
            frames = [result.frame for result in self.results.get(name, [])]
            assert frames == sorted(set(frames))
            assert summary.results == len(frames)
            assert not frames or frames[-1] + 1 == len(frames) + summary.dropped.total(), (name, summary)


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
