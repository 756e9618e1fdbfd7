"""Disks that are full, and files that cannot be written: that output ends, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streamseg.errors import OutputError, OutputGoneError
from streamseg.outputs import MemoryOutput, NdjsonOutput, VideoOutput
from streamseg.outputs.events import EventsOutput
from streamseg.runtime.pipeline import Pipeline
from streamseg.sources import resolve_sources
from streamseg.types import FrameResult, StreamEnd
from tests.support import disks
from tests.support.clips import happening, info
from tests.support.media import write_clip
from tests.support.moving import Moving
from tests.support.program import read_results, read_video
from tests.support.runs import run_here, run_program, without_clock


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 40 KiB where we may mount one, else a folder whose files cannot grow at all."""
    with disks.small_disk(tmp_path / "disk", "40k") as mounted:
        if not mounted:
            for name in ("a.mp4", "a.ndjson", "b.mp4", "b.ndjson", "a.events.ndjson"):
                (tmp_path / "disk" / f"{name}.partial").symlink_to("/dev/full")
        yield tmp_path / "disk"


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """A clip whose pictures hardly compress."""
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(80)]
    return write_clip(tmp_path / "a.mp4", pictures=pictures)


@pytest.mark.timeout(200)
def test_the_program_finishes_its_other_outputs_and_says_so(small_disk: Path, noisy: Path) -> None:
    results = noisy.with_name("a.ndjson")
    done = run_program(noisy, "-o", small_disk / "a.mp4", "--results", results)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert f"cannot write {small_disk}/a.mp4" in line
    assert "No space left on device" in line
    assert "Traceback" not in done.stderr
    assert len(read_results(results)) == 80
    assert not (small_disk / "a.mp4").exists()


def test_results_on_a_full_disk_end_in_a_whole_line_and_are_resumed(small_disk: Path, noisy: Path) -> None:
    video, results = noisy.with_name("b.mp4"), small_disk / "a.ndjson"
    (error,) = run_here(noisy, video=video, results=results).stats.errors
    assert isinstance(error, OutputGoneError)
    assert f"cannot write {results}: No space left on device" in str(error)
    assert len(read_video(video).seconds) == 80
    partial = small_disk / "a.ndjson.partial"
    if partial.is_symlink():
        return
    kept = len(read_results(partial))
    assert 0 < kept < 80
    larger = noisy.with_name("larger")
    larger.mkdir()
    partial = larger / "a.ndjson.partial"
    partial.write_bytes((small_disk / "a.ndjson.partial").read_bytes())
    pipeline = run_here(noisy, results=larger / "a.ndjson", resume=True)
    assert pipeline.stats.streams["a"].kept == kept
    assert [r["frame"] for r in without_clock(larger / "a.ndjson")] == list(range(80))


def test_events_on_a_full_disk_end_in_a_whole_line(small_disk: Path) -> None:
    output = EventsOutput(str(small_disk / "a.events.ndjson"))
    writer, whole = output.open(info("a")), 0

    def fill_up() -> None:
        nonlocal whole
        for number in range(2000):
            writer.write(happening(number), None, None)
            whole += 1

    with pytest.raises(OutputGoneError, match=r"cannot write .*a\.events\.ndjson: No space left on device"):
        fill_up()
    partial = small_disk / "a.events.ndjson.partial"
    if partial.is_symlink():
        return
    writer.close(StreamEnd.FAILED)
    lines = partial.read_bytes().splitlines(keepends=True)
    assert lines[-1].endswith(b"\n")
    frames = [msgspec.json.decode(line)["frame"] for line in lines]
    # Three a result; of the last result as many as there was room for.
    assert frames == [number // 3 for number in range(len(frames))]
    assert 3 * whole <= len(frames) < 3 * whole + 3


def test_with_no_output_left_the_run_ends_early(small_disk: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=2000, width=96, height=64)
    summary = run_here(clip, results=small_disk / "a.ndjson").stats
    assert len(summary.errors) == 1
    assert summary.frames < 1000


class Choosy(MemoryOutput):
    """Cannot write one of the streams."""

    def put(self, item: FrameResult | None) -> None:
        if item is not None and item.stream == "a" and item.frame == 2:
            raise OutputError("cannot write a")
        super().put(item)


def test_one_stream_that_cannot_be_written_does_not_stop_the_others(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{name}.mp4", frames=10, width=96, height=64) for name in "ab"]
    output = Choosy()
    pipeline = Pipeline(resolve_sources([str(clip) for clip in clips]), Moving(), [output])
    with pipeline:
        pipeline.join()
    results = list(iter(output.get, None))
    assert [r.frame for r in results if r.stream == "b"] == list(range(10))
    assert [r.frame for r in results if r.stream == "a"] == [0, 1]
    assert [str(error).partition(";")[0] for error in pipeline.stats.errors] == ["cannot write a"]


def test_a_file_that_cannot_be_opened_does_not_stop_the_others(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{name}.mp4", frames=5, width=96, height=64) for name in "ab"]
    out = tmp_path / "out"
    out.mkdir()
    outputs = [NdjsonOutput(f"{out}/"), VideoOutput(f"{out}/")]
    (out / "a.mp4").mkdir()
    (out / "b.ndjson").mkdir()
    pipeline = Pipeline(resolve_sources([str(clip) for clip in clips]), Moving(), outputs)
    with pipeline:
        pipeline.join()
    assert {path.name for path in out.iterdir() if path.is_file()} == {"a.ndjson", "b.mp4"}
    assert len(read_results(out / "a.ndjson")) == len(read_video(out / "b.mp4").seconds) == 5
    assert sorted(str(error).partition(";")[0] for error in pipeline.stats.errors) == [
        f"cannot write {out}/a.mp4: is a folder",
        f"cannot write {out}/b.ndjson: is a folder",
    ]
