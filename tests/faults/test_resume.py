"""What a resumed run makes of what it finds."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamseg.errors import UsageError
from tests.support.media import write_clip
from tests.support.program import read_results, read_video
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


def test_results_say_their_source(clip: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clip.parent)
    run_here("a.mp4", results=results)
    assert {result["source"] for result in read_results(results)} == {str(clip)}


@pytest.fixture
def two(tmp_path: Path) -> dict[str, Path]:
    """Files of one stem in two folders."""
    for name, frames in (("p", 5), ("q", 7)):
        (tmp_path / name).mkdir()
        write_clip(tmp_path / name / "x.mp4", frames=frames, width=96, height=64)
    return {name: tmp_path / name / "x.mp4" for name in "pq"}


def cut_short(results: Path, lines: int) -> None:
    kept = results.read_bytes().splitlines(keepends=True)[:lines]
    results.unlink()
    partial(results).write_bytes(b"".join(kept))


@pytest.mark.parametrize("order", ["qp", "q", "p"])
def test_files_are_gone_on_with_by_their_source(two: dict[str, Path], tmp_path: Path, order: str) -> None:
    """Whatever the order, and whether others are still there."""
    out = tmp_path / "out"
    run_here(two["p"], two["q"], results=f"{out}/")
    expected = {name: without_clock(out / f"{name}.ndjson") for name in ("x", "x-2")}
    cut_short(out / "x-2.ndjson", 3)
    done = run_here(*(two[name] for name in order), results=f"{out}/", resume=True).stats
    if "q" in order:
        assert done.streams["x-2"].kept == 3
        assert without_clock(out / "x-2.ndjson") == expected["x-2"]
    assert done.finished_before == ("p" in order)
    assert without_clock(out / "x.ndjson") == expected["x"]


def test_a_new_file_does_not_get_the_results_of_another(two: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_here(two["q"], results=f"{out}/")
    before = (out / "x.ndjson").read_bytes()
    done = run_here(two["p"], two["q"], results=f"{out}/", resume=True).stats
    assert (done.finished_before, done.frames) == (1, 5)
    assert (out / "x.ndjson").read_bytes() == before
    assert {r["source"] for r in read_results(out / "x-2.ndjson")} == {str(two["p"])}


def test_a_file_is_known_by_any_path_to_it(two: dict[str, Path], tmp_path: Path) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    run_here(two["p"], results=f"{out}/")
    link.symlink_to(two["p"].parent)
    assert run_here(link, results=f"{out}/", resume=True).stats.finished_before == 1


@pytest.mark.parametrize("template", ["{out}/{{stream}}/r.ndjson", "{out}/[1]-{{stream}}.ndjson", "{out}/"])
def test_any_template_is_gone_on_with(two: dict[str, Path], tmp_path: Path, template: str) -> None:
    results = template.format(out=tmp_path / "out")
    run_here(two["p"], two["q"], results=results)
    assert run_here(two["q"], two["p"], results=results, resume=True).stats.finished_before == 2


def test_results_without_a_source_are_gone_on_with_by_their_id(clip: Path, results: Path) -> None:
    expected = interrupted(clip, results, after=7)
    kept = [json.loads(line) for line in partial(results).read_text().splitlines()]
    lines = [json.dumps({k: v for k, v in one.items() if k != "source"}) + "\n" for one in kept]
    partial(results).write_text("".join(lines))
    assert run_here(clip, results=results, resume=True).stats.streams["a"].kept == 7
    assert [r["frame"] for r in without_clock(results)] == [r["frame"] for r in expected]


def test_a_file_of_results_of_another_source_is_refused(two: dict[str, Path], results: Path) -> None:
    run_here(two["p"], results=results)
    before = results.read_bytes()
    with pytest.raises(UsageError, match=r"a\.ndjson is of the source .*p/x\.mp4, not of .*q/x\.mp4"):
        run_here(two["q"], results=results, resume=True)
    assert results.read_bytes() == before


def test_names_of_any_script_have_files_of_their_own(tmp_path: Path) -> None:
    clips, out = tmp_path / "in", tmp_path / "out"
    clips.mkdir()
    names = ["видео", "公園", "हिन्दी", "café", "عربي"]
    for frames, name in enumerate(names, 2):
        write_clip(clips / f"{name}.mp4", frames=frames, width=96, height=64)
    (clips / os.fsdecode(b"k\xe9.mp4")).touch()
    done = run_program(clips, "--results", f"{out}/", "-o", f"{out}/")
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("error")] == [
        f"error: {clips}/k\\xe9.mp4: the name is not valid UTF-8; give the file another one"
    ]
    assert {p.name for p in out.iterdir()} == {f"{name}.{end}" for name in names for end in ("mp4", "ndjson")}
    for frames, name in enumerate(names, 2):
        found = read_results(out / f"{name}.ndjson")
        assert [(r["stream"], r["source"]) for r in found] == [(name, f"{clips}/{name}.mp4")] * frames
    (clips / "видео.mp4").unlink()
    assert run_here(clips, results=f"{out}/", resume=True).stats.finished_before == 4


def test_pictures_and_folders_of_folders(tmp_path: Path) -> None:
    write_clip(tmp_path / "v.mp4", frames=3, width=96, height=64)
    (tmp_path / "deep").mkdir()
    for place in ("a.png", "b.jpg", "deep/a.webp"):
        cv2.imwrite(str(tmp_path / place), np.full((64, 96, 3), 99, np.uint8))
    run_here(tmp_path, results=f"{tmp_path}/out/", recursive=True)
    found = {path.stem: len(read_results(path)) for path in (tmp_path / "out").iterdir()}
    assert found == {"v": 3, "a": 1, "b": 1, "a-2": 1}


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


@pytest.mark.parametrize("link", [None, os.symlink, os.link], ids=["itself", "symlink", "hard-link"])
@pytest.mark.parametrize("ending", ["", ".partial", ".unfinished"])
@pytest.mark.parametrize("kind", ["results", "video"])
def test_names_that_outputs_need_are_no_sources(
    kind: str, ending: str, link: Callable[[Path, Path], None] | None, clip: Path, tmp_path: Path
) -> None:
    """Also if the source is called by another name."""
    source, before = tmp_path / f"cam.mp4{ending}", clip.read_bytes()
    if link is None:
        clip.rename(source)
    else:
        link(clip, source)
    with pytest.raises(UsageError, match=r"cam\.mp4.* is a source itself"):
        run_here(source if link is None else clip, **{kind: tmp_path / "cam.mp4"})  # type: ignore[arg-type]
    assert source.read_bytes() == before


def test_the_partial_file_of_an_output_is_no_other_output(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is the file of two outputs"):
        run_here(clip, video=tmp_path / "x.mp4", results=tmp_path / "x.mp4.partial")
