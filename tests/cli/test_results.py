"""``streamseg results`` and ``streamseg render``, run in this process."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from streamseg.cli import main
from streamseg.results.reading import read_results
from streamseg.training.data.pictures import read_image
from streamseg.training.loop import train
from tests.support.clips import read_video
from tests.support.drawn import content_of_config, make_segment, write_config
from tests.support.media import read_counter, write_clip
from tests.support.runs import WATCHED, run_here, run_watched
from tests.support.stored import drawn, stored, write_results


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    """A render listens to signals, which are this process's."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip with its results beside it."""
    clip = write_clip(tmp_path / "clip.mp4", frames=20, width=96, height=64)
    run_here(clip, results=tmp_path / "run.ndjson")
    return clip


def told(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    """What a command says on stderr."""
    assert main([*map(str, arguments), "--no-progress"]) == code
    return capsys.readouterr().err


def test_labels_with_their_pictures_train_again(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labels"
    text = told(
        capsys, "results", tmp_path / "run.ndjson", "--to", "coco", out, "--video", clip, "--stride", "4"
    )
    assert f"5 pictures in {out}/images" in text
    assert "5 frames, " in text
    content = content_of_config(tmp_path, steps=2, warmup_steps=1, batch=2)
    content["model"]["classes"] = ["person", "car"]
    content["data"] = {
        "images": str(out / "images"),
        "train": str(out / "annotations.json"),
        "val": str(out / "annotations.json"),
    }
    outcome = train(write_config(tmp_path, content), resume=False, progress=False, make_segment=make_segment)
    assert outcome.steps == 2
    assert outcome.weights.exists()


def test_pictures_are_those_of_the_labelled_frames(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(
        capsys,
        "results",
        tmp_path / "run.ndjson",
        "--to",
        "coco",
        tmp_path / "out",
        "--video",
        clip,
        "--stride",
        "7",
    )
    rows = json.loads((tmp_path / "out/annotations.json").read_text())["images"]
    assert [row["frame"] for row in rows] == [0, 7, 14]
    for row in rows:
        picture = read_image(tmp_path / "out/images" / row["file_name"], (row["height"], row["width"]))
        assert read_counter(picture) == row["frame"]


def test_pictures_that_are_needed_are_named(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(capsys, "results", tmp_path / "run.ndjson", "--to", "yolo", tmp_path / "out")
    assert "pictures that are not written, clip_000000.jpg to clip_000019.jpg in" in text
    assert f"they are frames 0 to 19 of {clip}; add --video VIDEO to have them" in text


def test_videos_of_several_streams_are_told_apart(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_clip(tmp_path / "other.mp4", frames=6, width=96, height=64, first_number=300)
    run_here(other, results=tmp_path / "other.ndjson")
    moved = other.rename(tmp_path / "moved.mp4")
    runs = [tmp_path / "run.ndjson", tmp_path / "other.ndjson"]
    text = told(capsys, "results", *runs, "--to", "yolo", tmp_path / "out", "--video", moved, code=2)
    assert f"{moved}: no results are of it; there are those of clip, other" in text
    back = moved.rename(other)
    text = told(capsys, "results", *runs, "--to", "yolo", tmp_path / "out", "--video", back, "--video", clip)
    assert text.count("pictures in") == 2
    names = {path.stem for path in (tmp_path / "out/images").iterdir()}
    assert names == {path.stem for path in (tmp_path / "out/labels").iterdir()}
    assert len(names) == 26


def test_pictures_of_another_video_are_refused(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_clip(tmp_path / "other.mp4", frames=20)
    text = told(
        capsys, "results", tmp_path / "run.ndjson", "--to", "coco", tmp_path / "out", "--video", other, code=2
    )
    assert "is of pictures of 96x64" in text
    assert not (tmp_path / "out/annotations.json").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--to", "cvat", "out.xml", "--video", "x.mp4"], "--video: labels for cvat have no pictures"),
        (["--to", "yolo", "out", "--shapes", "masks"], "--shapes: labels for yolo have one kind of shape"),
        (["--to", "csv", "out.csv", "--classes", "persn"], "'persn' (did you mean person?) is no class of"),
        (["--to", "vott", "out"], "'vott' is not one of 'coco', 'yolo', 'cvat', 'mots', 'csv'"),
        (["--to", "csv", "out.txt"], "labels for csv go to a name that ends in .csv, or a folder"),
        (["--to", "csv", "none/", "out.csv"], "none: there is no such file"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    tmp_path: Path,
    arguments: list[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_results(tmp_path / "run.ndjson", stored(drawn("ring")))
    said = told(capsys, "results", "run.ndjson", *arguments, code=2)
    assert text in said
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1


def test_a_full_disk_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_results(tmp_path / "run.ndjson", stored(drawn("ring")))
    (tmp_path / "out.csv.partial").symlink_to("/dev/full")
    said = told(capsys, "results", path, "--to", "csv", tmp_path / "out.csv", code=1)
    assert said == f"error: cannot write {tmp_path}/out.csv: No space left on device\n"


def test_a_render_says_what_it_did(tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "again.mp4"
    text = told(
        capsys, "render", clip, tmp_path / "run.ndjson", "-o", out, "--overlay", "masks", "--blur", "car"
    )
    assert text == f"20 frames in {out}\n"
    assert len(read_video(out)[0]) == 20


def test_a_render_takes_zones_from_the_runs_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=6)
    run_watched(clip, outputs=[{"type": "ndjson", "path": str(tmp_path / "run.ndjson")}])
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump({"streams": [{"id": "cam", "url": str(clip), **WATCHED}]}))
    results = tmp_path / "run.ndjson"
    nothing = ("--overlay", "none")
    assert "are not painted" in told(capsys, "render", clip, results, "-o", tmp_path / "a.mp4", *nothing)
    text = told(capsys, "render", clip, results, "-o", tmp_path / "b.mp4", "-c", config, *nothing)
    assert "are not painted" not in text
    without, with_zones = (read_video(tmp_path / f"{name}.mp4")[1][3].astype(int) for name in "ab")
    changed = np.abs(without - with_zones).max(axis=2) > 100
    assert changed[:, 158:162].any(axis=1).mean() > 0.5, "the line in the middle"


def test_a_render_of_a_wrong_file_is_one_line(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "again.mp4"
    text = told(capsys, "render", clip, clip, "-o", out, code=2)
    assert "line 1: no frame result" in text
    assert len(text.splitlines()) == 1
    text = told(capsys, "render", clip, tmp_path / "run.ndjson", "-o", tmp_path / "again.avi", code=2)
    assert "its name ends in .mp4, .m4v, .mov" in text
    text = told(capsys, "render", clip, tmp_path / "run.ndjson", "-o", out, "--overlay", "mask", code=2)
    assert "'mask' cannot be painted (did you mean masks?)" in text
    assert not out.exists()


def test_a_frame_of_the_video_is_extracted_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Turned pictures are written upright, as the masks are."""
    clip = write_clip(tmp_path / "clip.mp4", frames=4, width=96, height=64, turn=90)
    run_here(clip, results=tmp_path / "run.ndjson")
    told(capsys, "results", tmp_path / "run.ndjson", "--to", "coco", tmp_path / "out", "--video", clip)
    assert {(one.width, one.height) for one in read_results(tmp_path / "run.ndjson")} == {(64, 96)}
    assert read_image(tmp_path / "out/images/clip_000002.jpg", (96, 64)).shape == (96, 64, 3)
