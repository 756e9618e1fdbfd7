"""Starting the program on the stand-in model, and what its results must be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from streamseg import api
from streamseg.api import build_pipeline
from streamseg.config import parse_config
from streamseg.pipeline import Pipeline
from tests.faults.moving import Moving
from tests.media import write_clip
from tests.program import ROOT, read_results


def command(*arguments: str | Path, seconds: float = 0.0) -> list[str]:
    """``seconds`` for each picture."""
    options = ["--weights", str(seconds), "--no-progress"]
    return [sys.executable, "-m", "tests.faults.program", "run", *map(str, arguments), *options]


def run_program(
    *arguments: str | Path, seconds: float = 0.0, timeout: float = 100
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, seconds=seconds),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


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
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("*.ndjson*"))


def run_here(
    *sources: str | Path,
    results: Path | None = None,
    video: Path | None = None,
    redis: str | None = None,
    seconds: float = 0.0,
    resume: bool = False,
    **part: float,
) -> Pipeline:
    """Run in this process to the end; folders as outputs end in a slash."""
    places = (("ndjson", "path", results), ("video", "path", video), ("redis", "url", redis))
    content = {
        "streams": [{"url": str(source)} | part for source in sources],
        "model": {"weights": str(seconds)},
        "outputs": [{"type": kind, key: str(place)} for kind, key, place in places if place is not None],
    }
    with patch.object(api, "BatchHalver", Moving):
        pipeline = build_pipeline(parse_config(content, where="test"), resume=resume)
    with pipeline:
        pipeline.join()
    pipeline.raise_first_error()
    return pipeline
