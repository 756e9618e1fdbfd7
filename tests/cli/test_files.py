"""Recorded files through the whole program: with the bundled weights where they matter."""

import subprocess
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.support import runs
from tests.support.media import write_clip
from tests.support.program import ROOT, STREET, check_result, read_results, read_video, run_main, run_program

CLIPS = ROOT.parent / "shared" / "clips"


WITH_BUNDLED_WEIGHTS = partial(run_main, "run")


def segment(
    source: Path,
    folder: Path,
    *options: str,
    run: Callable[..., subprocess.CompletedProcess[str]] = runs.run_program,
) -> tuple[list[dict], Path]:
    """Run one source to a video and NDJSON; returns the results and the video's path."""
    video, results = folder / "masks.mp4", folder / "results.ndjson"
    done = run(source, "-o", video, "--results", results, *options)
    assert done.returncode == 0, done.stderr
    return read_results(results), video


def test_the_demo_clip_becomes_an_overlay_and_results(tmp_path: Path) -> None:
    results, overlay = segment(STREET, tmp_path, "--end", "2", run=run_program)
    source, masked = read_video(STREET), read_video(overlay)
    count = sum(second < 2 for second in source.seconds)
    assert masked.size == source.size == (768, 576)
    assert masked.seconds == pytest.approx(source.seconds[:count], abs=1e-6)
    assert [r["frame"] for r in results] == list(range(count))
    assert [r["pts"] for r in results] == pytest.approx(source.seconds[:count], abs=1e-6)
    for result in results:
        check_result(result)
    people = [sum(i["label"] == "person" for i in r["instances"]) for r in results]
    assert np.mean(people) >= 2, "people walk through every frame of this clip"
    assert results[0]["model"] == "demo"
    assert len({i["id"] for r in results for i in r["instances"]}) < sum(people) / 5, "tracks last"


def test_every_frame_of_a_cut_keeps_its_number(tmp_path: Path) -> None:
    results, overlay = segment(STREET, tmp_path, "--start", "1", "--end", "3", "--stride", "5", "--no-track")
    assert [r["frame"] for r in results] == [0, 5, 10, 15]
    assert [r["pts"] for r in results] == pytest.approx([1.0, 1.5, 2.0, 2.5], abs=1e-6)
    assert all(i["id"] is None for r in results for i in r["instances"])
    assert read_video(overlay).seconds == pytest.approx([0.0, 0.5, 1.0, 1.5], abs=1e-6)


def test_a_clip_of_one_frame(tmp_path: Path) -> None:
    results, overlay = segment(write_clip(tmp_path / "one.mp4", frames=1), tmp_path)
    assert len(results) == len(read_video(overlay).seconds) == 1


def test_a_clip_of_odd_size(tmp_path: Path) -> None:
    results, overlay = segment(write_clip(tmp_path / "odd.mp4", frames=3, width=321, height=241), tmp_path)
    assert {(r["width"], r["height"]) for r in results} == {(321, 241)}
    assert read_video(overlay).size == (321, 241)


def test_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    ticks = [0, 40, 50, 200, 210, 1000, 1033]
    clip = write_clip(tmp_path / "vfr.mp4", frames=len(ticks), ticks=ticks, time_base=Fraction(1, 1000))
    results, overlay = segment(clip, tmp_path)
    expected = [tick / 1000 for tick in ticks]
    assert [r["pts"] for r in results] == pytest.approx(expected, abs=1e-6)
    assert read_video(overlay).seconds == pytest.approx(expected, abs=1e-6)


def test_sound_is_copied(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "sound.mp4", frames=25, sound=1.0)
    _, overlay = segment(clip, tmp_path)
    packets = read_video(clip).audio_packets
    # The encoder's run-in before time 0 may go: it holds no sound.
    assert read_video(overlay).audio_packets in {packets, packets - 1}
    assert packets > 10


@pytest.mark.parametrize("name", ["01_dog", "car-detection", "highway", "one-by-one-person-detection"])
def test_real_clips(name: str, tmp_path: Path) -> None:
    clip = CLIPS / f"{name}.mp4"
    if not clip.is_file():
        pytest.skip(f"{clip} is not there")
    options = ("--end", "1", "--stride", "3")
    run = WITH_BUNDLED_WEIGHTS if name == "01_dog" else runs.run_program
    results, overlay = segment(clip, tmp_path, *options, run=run)
    source = read_video(overlay)
    assert len(results) == len(source.seconds) > 3
    for result in results:
        check_result(result)
        assert (result["width"], result["height"]) == source.size


def test_a_folder_is_worked_off_into_one_file_each(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(12):
        write_clip(clips / f"{number:02}.mp4", frames=number % 3 + 1, width=64, height=48)
    done = runs.run_program(clips, "--results", f"{tmp_path}/out/")
    assert done.returncode == 0, done.stderr
    counts = {p.stem: len(read_results(p)) for p in (tmp_path / "out").glob("*.ndjson")}
    assert counts == {f"{number:02}": number % 3 + 1 for number in range(12)}


def test_classes_and_score_restrict_the_results(tmp_path: Path) -> None:
    options = ("--end", "1", "--classes", "person", "--score", "0.4")
    results, _ = segment(STREET, tmp_path, *options, run=WITH_BUNDLED_WEIGHTS)
    found = [i for r in results for i in r["instances"]]
    assert found
    assert {i["label"] for i in found} == {"person"}
    assert min(i["score"] for i in found) >= 0.4
