"""Two hundred broken media files: none hangs the program, shows a traceback or harms a stream beside it."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from streamseg.errors import RunError
from streamseg.outputs import NdjsonOutput, VideoOutput
from streamseg.runtime.pipeline import Pipeline
from streamseg.sources import resolve_sources
from tests.support.media import write_clip
from tests.support.moving import Moving
from tests.support.mutations import write_mutation
from tests.support.program import read_results, read_video
from tests.support.reading import worker_pids

HEALTHY = 40
"""Frames of the clips among the broken files."""
PER_FILE = 3.0
"""Seconds that a file may take on average; a healthy one takes 0.2."""


def write_files(folder: Path, seeds: range) -> list[Path]:
    """Broken files, with a healthy one before every 25."""
    paths = []
    for number, seed in enumerate(seeds):
        if number % 25 == 0:
            path = folder / f"healthy{number}.mp4"
            paths.append(write_clip(path, frames=HEALTHY, width=96, height=64))
        paths.append(write_mutation(folder, seed))
    return paths


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(0, 200, 4), id="part", marks=pytest.mark.timeout(300)),
        pytest.param(range(200), id="all", marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
    ],
)
def test_broken_files(
    seeds: range, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    files, out = tmp_path / "in", tmp_path / "out"
    files.mkdir()
    out.mkdir()
    paths = write_files(files, seeds)
    outputs = [NdjsonOutput(f"{out}/"), VideoOutput(f"{out}/")]
    pipeline = Pipeline(resolve_sources([str(path) for path in paths]), Moving(), outputs)
    began = time.monotonic()
    with pipeline:
        pipeline.join()
    took = time.monotonic() - began
    pipeline.raise_first_error()
    assert took < PER_FILE * len(paths)
    assert not worker_pids(os.getpid())
    streams = pipeline.stats.streams
    assert len(streams) == len(paths)
    assert all(stream.over and not stream.waiting for stream in streams.values())
    for path in (path for path in paths if path.stem.startswith("healthy")):
        assert streams[path.stem].error is None
        assert len(read_results(out / f"{path.stem}.ndjson")) == HEALTHY
        assert len(read_video(out / f"{path.stem}.mp4").seconds) == HEALTHY
    errors = pipeline.stats.errors
    assert all(isinstance(error, RunError) and "\n" not in str(error) for error in errors)
    assert len(errors) > len(paths) / 5, "they are broken indeed"
    assert not [text for text in (caplog.text, *capfd.readouterr()) if "Traceback" in text]
    for stem, stream in streams.items():
        whole = out / f"{stem}.ndjson"
        assert whole.exists() == (stream.error is None and stream.info is not None), stem
        if whole.exists():
            assert len(read_results(whole)) == stream.results
