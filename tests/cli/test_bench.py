"""``streamseg bench``: what it says of a short clip, and what it refuses."""

import json
from pathlib import Path

import pytest

from streamseg.cli import main
from tests.support.media import write_clip

FRAMES = 3


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    write_clip(path, frames=FRAMES)
    return path


def test_every_way_to_work_is_measured(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(clip), "--batches", "1,2", "--seconds", "0", "--json"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert report["model"].startswith("demo: solov2")
    assert [report[way]["frames"] for way in ("batches of 1", "batches of 2", "whole program")] == [
        1,
        2,
        FRAMES,
    ]
    for way in ("batches of 1", "batches of 2", "whole program"):
        assert report[way]["frames_per_second"] > 0
        milliseconds = report[way]["milliseconds"]
        assert all(milliseconds[stage] > 0 for stage in ("preprocess", "forward", "postprocess"))
        assert (milliseconds["decode"] > 0) == (way == "whole program")


def test_the_table_has_a_line_for_each(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(clip), "--batches", "2", "--seconds", "0"]) == 0

    model, header, *lines = capsys.readouterr().out.splitlines()
    assert "cpu" in model
    assert header.split()[:2] == ["frames/s", "decode"]
    assert [line[:24].strip() for line in lines] == ["batches of 2", "whole program"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["{clip}", "--batches", "1,many"], "--batches 1,many: allowed are numbers from 1 to 256"),
        (["{clip}", "--batches", "0"], "--batches 0"),
        (["{clip}", "--seconds", "-1"], "--seconds"),
        (["{clip}", "--weights", "nowhere"], "weights 'nowhere'"),
        (["{clip}", "--device", "tpu"], "model.device"),
        (["nowhere.mp4"], "nowhere.mp4"),
        (["rtsp://user:secret@host/a"], "bench measures with a recorded file"),
    ],
)
def test_a_mistake_is_refused_in_one_line(
    arguments: list[str], expected: str, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *(a.replace("{clip}", str(clip)) for a in arguments)]) == 2

    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert expected in captured.err
    assert "secret" not in captured.err
