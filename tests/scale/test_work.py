"""What is handed to a cluster, and what is refused in one line before anything is handed over."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from streamseg.cli import main
from streamseg.config import parse_config
from streamseg.errors import UsageError
from streamseg.scale.work import Work, work_of
from tests.support.servers import free_port

CAMERA = "rtsp://host/a"


def work(**content: Any) -> Work:
    return work_of(parse_config({"streams": [{"url": CAMERA}]} | content, where="test"))


def test_every_camera_is_named_and_nothing_depends_on_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.safetensors").touch()
    found = work(
        streams=[{"url": CAMERA}, {"id": "door", "url": CAMERA, "score": 0.5}],
        outputs=[{"type": "ndjson", "path": "out/"}, {"type": "video", "path": "out/{stream}.mp4"}],
        model={"weights": "own.safetensors"},
    )
    assert list(found.streams) == ["host-a", "door"]
    assert found.streams["door"]["score"] == 0.5
    assert [output["path"] for output in found.config["outputs"]] == [
        f"{tmp_path}/out/",
        f"{tmp_path}/out/{{stream}}.mp4",
    ]
    assert found.config["model"]["weights"] == f"{tmp_path}/own.safetensors"
    parse_config(found.config, where="as the engine reads it")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"streams": [{"url": "clip.mp4"}]}, "these should be cameras, but clip.mp4 is a recording"),
        ({"view": {"enabled": True}}, "view.enabled: pictures of a cluster are on many machines"),
        ({"metrics": {"enabled": True, "host": "0.0.0.0"}}, "set metrics.token"),
        ({"model": {"device": ["cpu", "cpu"]}}, "model.device: with --ray every device has its worker"),
        ({"outputs": [{"type": "ndjson", "path": "-"}]}, "a cluster has no standard output"),
        ({"outputs": [{"type": "redis", "url": "embedded"}]}, "name one all machines reach"),
    ],
)
def test_what_a_cluster_cannot_do(content: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        work(**content)


def complaint_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_ray_that_is_not_installed_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for arguments in (("run", CAMERA, "--ray"), ("cluster", "status"), ("cluster", "stop")):
        assert complaint_of(capsys, *arguments) == (
            "error: a cluster needs Ray, which is not installed: pip install 'streamseg[ray]'"
        )


def test_resume_is_for_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--resume is for recorded files" in complaint_of(capsys, "run", CAMERA, "--ray", "--resume")


def test_a_lone_option_takes_no_source_for_its_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert "it needs --results" in complaint_of(capsys, "run", "--ray", "clip.mp4")
    assert "it needs --results" in complaint_of(capsys, "run", "--ray", "10.0.0.1:6379", "clip.mp4")
    assert "it needs --results" in complaint_of(capsys, "run", "--ray", "auto", "clip.mp4")


def test_a_cluster_that_is_not_there_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    address = f"127.0.0.1:{free_port()}"
    assert main(["cluster", "status", "--address", address]) == 2
    said = f"error: no Ray cluster at {address}: Connection refused; start one with ray start --head\n"
    assert capfd.readouterr().err == said
