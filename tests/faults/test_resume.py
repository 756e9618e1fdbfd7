"""What a resumed run makes of what it finds."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from streamseg.errors import UsageError
from tests.support.media import write_clip
from tests.support.program import read_video
from tests.support.runs import run_here, run_program, without_clock, write_clips


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "a.mp4", frames=20, width=96, height=64)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "a.ndjson"


def interrupted(clip: Path, results: Path, *, after: int, tail: bytes = b"", **part: float) -> list[dict]:
    """Leave what a run would that was killed; returns the results of one that was not."""
    run_here(clip, results=results, **part)
    whole = without_clock(results)
    lines = results.read_bytes().splitlines(keepends=True)
    results.unlink()
    partial(results).write_bytes(b"".join(lines[:after]) + tail)
    return whole


def partial(results: Path) -> Path:
    return results.with_name(results.name + ".partial")


def test_finished_files_are_not_touched_and_others_begun(tmp_path: Path) -> None:
    clips, out = write_clips(tmp_path / "in", 5, 6, 7), tmp_path / "out"
    out.mkdir()
    run_here(clips / "c0.mp4", results=out, video=out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    summary = run_here(clips, results=out, video=out, resume=True).stats
    assert (summary.finished_before, summary.frames) == (1, 13)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert run_here(clips, results=out, video=out, resume=True).stats.frames == 0


def test_videos_can_be_made_later_without_the_model(clip: Path, results: Path, tmp_path: Path) -> None:
    run_here(clip, results=results, video=tmp_path / "first.mp4")
    before, began = results.read_bytes(), time.monotonic()
    run_here(clip, results=results, video=tmp_path / "later.mp4", resume=True, seconds=20)
    assert time.monotonic() - began < 20, "the model was not asked"
    assert results.read_bytes() == before
    first, later = read_video(tmp_path / "first.mp4"), read_video(tmp_path / "later.mp4")
    assert later.seconds == first.seconds
    assert (later.first == first.first).all()


TAILS = {
    "half a line": b'{"v":1,"stream":"a","epoch":0,"frame":7,"pts":0.28,"ti',
    "zeros": b"\0" * 5000,
    "another object": b'{"v": 1}\n',
    "not text": b"\xff\xfe\n",
    "nothing": b"",
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("after", [0, 7, 20])
def test_what_is_torn_is_cut_off(clip: Path, results: Path, tail: str, after: int) -> None:
    expected = interrupted(clip, results, after=after, tail=TAILS[tail])
    kept = partial(results).read_bytes().removesuffix(TAILS[tail])
    stream = run_here(clip, results=results, resume=True).stats.streams["a"]
    assert stream.kept == after
    assert results.read_bytes().startswith(kept)
    assert without_clock(results) == expected


def test_a_line_too_many_is_cut_off(clip: Path, results: Path) -> None:
    expected = interrupted(clip, results, after=7)
    lines = partial(results).read_bytes().splitlines(keepends=True)
    partial(results).write_bytes(b"".join([*lines, lines[3], *lines]))
    run_here(clip, results=results, resume=True)
    assert without_clock(results) == expected


def test_part_and_stride_are_resumed_too(results: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=60, width=96, height=64)
    part = {"start": 0.4, "end": 2, "stride": 3}
    expected = interrupted(clip, results, after=5, **part)
    run_here(clip, results=results, resume=True, **part)
    assert without_clock(results) == expected
    assert len(expected) == 14


@pytest.mark.parametrize(
    "changes", [{"fps": 10}, {"frames": 10}, {"height": 96}], ids=["slower", "shorter", "larger"]
)
def test_results_of_another_source_are_refused_and_kept(
    clip: Path, results: Path, changes: dict[str, int]
) -> None:
    interrupted(clip, results, after=15)
    before = partial(results).read_bytes()
    write_clip(clip, **({"frames": 40, "width": 96, "height": 64} | changes))  # type: ignore[arg-type]
    (error,) = run_here(clip, results=results, resume=True).stats.errors
    assert "a.ndjson.partial is of another source" in str(error)
    assert partial(results).read_bytes() == before
    assert not results.exists()


def test_one_file_of_another_source_does_not_stop_the_others(tmp_path: Path) -> None:
    clips, out = write_clips(tmp_path / "in", 20, 20), tmp_path / "out"
    out.mkdir()
    run_here(clips, results=out)
    expected = without_clock(out / "c1.ndjson")
    for number in (0, 1):
        path = out / f"c{number}.ndjson"
        partial(path).write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:9]))
        path.unlink()
    write_clip(clips / "c0.mp4", frames=20, width=64, height=64)
    summary = run_here(clips, results=out, resume=True).stats
    assert len(summary.errors) == 1
    assert without_clock(out / "c1.ndjson") == expected


def test_results_of_other_weights_are_refused(clip: Path, results: Path) -> None:
    interrupted(clip, results, after=5)
    partial(results).write_bytes(partial(results).read_bytes().replace(b'"moving"', b'"others"'))
    with pytest.raises(UsageError, match="was made with the weights others, not moving"):
        run_here(clip, results=results, resume=True)


def test_two_result_files_are_both_completed(clip: Path, tmp_path: Path) -> None:
    """They need not have come equally far."""
    expected = interrupted(clip, tmp_path / "a.ndjson", after=12)
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, lines in ((one, 12), (two, 4)):
        folder.mkdir()
        kept = partial(tmp_path / "a.ndjson").read_bytes().splitlines(keepends=True)
        (folder / "a.ndjson.partial").write_bytes(b"".join(kept[:lines]))
    done = run_program(
        clip, "--resume", "--set", f"outputs=[{{type: ndjson, path: {one}/}}, {{type: ndjson, path: {two}/}}]"
    )
    assert done.returncode == 0, done.stderr
    assert without_clock(one / "a.ndjson") == without_clock(two / "a.ndjson") == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"video": "a.mp4"}, "--resume goes by the results in NDJSON files: it needs --results FILE"),
        ({"results": "-"}, "--resume goes by the results in NDJSON files"),
    ],
)
def test_without_result_files_it_is_wrong(options: dict[str, str], expected: str, clip: Path) -> None:
    with pytest.raises(UsageError, match=expected):
        run_here(clip, resume=True, **options)  # type: ignore[arg-type]


def test_cameras_cannot_be_resumed(results: Path) -> None:
    with pytest.raises(UsageError, match=r"stream 127\.0\.0\.1-x is live"):
        run_here("rtsp://127.0.0.1/x", results=results, resume=True)


def test_wrong_use_is_one_line(clip: Path) -> None:
    done = run_program(clip, "--resume")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --resume goes by the results")


def test_outputs_do_not_overwrite_a_source_or_each_other(clip: Path, tmp_path: Path) -> None:
    before = clip.read_bytes()
    with pytest.raises(UsageError, match=r"a\.mp4 is a source itself"):
        run_here(clip, results=clip)
    shutil.copy(clip, tmp_path / "b.mp4")
    with pytest.raises(UsageError, match=r"b\.mp4 is a source itself"):
        run_here(tmp_path / "b.mp4", clip, video=tmp_path / "x-{stream}/../{stream}.mp4")
    with pytest.raises(UsageError, match="is the file of two outputs"):
        run_here(clip, results=tmp_path / "x.mp4", video=tmp_path / "x.mp4")
    assert clip.read_bytes() == before
