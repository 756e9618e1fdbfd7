"""Files that are handed to a cluster, and what is refused in one line before anything is handed over."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from streamseg.config import parse_config
from streamseg.errors import UsageError
from streamseg.runtime.build import build_sources
from streamseg.scale.file_work import FileWork, check_recorded, file_work_of

RESULTS = {"type": "ndjson", "path": "out/"}


def work(*urls: str, outputs: list[dict[str, Any]] | None = None, **content: Any) -> FileWork:
    streams = [{"url": url} for url in urls or ("a.mp4", "b.mp4")]
    outputs = [RESULTS] if outputs is None else outputs
    config = parse_config({"streams": streams, "outputs": outputs, **content}, where="test")
    return file_work_of(config, build_sources(config))


def test_paths_mean_the_same_on_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "c.mp4").touch()
    (tmp_path / "own.safetensors").touch()
    found = work(
        "a.mp4",
        "clips",
        "file:///b.mp4",
        "~/d.mp4",
        outputs=[
            RESULTS,
            {"type": "video", "path": "masks"},
            {"type": "events", "path": "of/{stream}/e.ndjson"},
        ],
        model={"weights": "own.safetensors"},
    )
    places = [f"{tmp_path}/a.mp4", f"{tmp_path}/clips", "file:///b.mp4", os.path.expanduser("~/d.mp4")]
    assert [stream["url"] for stream in found.config["streams"]] == places
    assert [output["path"] for output in found.config["outputs"]] == [
        f"{tmp_path}/out/",
        f"{tmp_path}/masks/",
        f"{tmp_path}/of/{{stream}}/e.ndjson",
    ]
    assert found.config["model"]["weights"] == f"{tmp_path}/own.safetensors"
    assert found.set_aside == f"{tmp_path}/out/set-aside.jsonl"
    parse_config(found.config, where="as the queue reads it")


def test_one_file_may_have_one_file_of_results(tmp_path: Path) -> None:
    found = work("a.mp4", outputs=[{"type": "ndjson", "path": f"{tmp_path}/a.ndjson"}])
    assert not found.several
    assert found.config["outputs"][0]["path"] == f"{tmp_path}/a.ndjson"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"outputs": []}, "it needs --results"),
        ({"outputs": [{"type": "video", "path": "out/"}]}, "it needs --results"),
        ({"outputs": [{"type": "ndjson", "path": "-"}]}, "a cluster has no standard output"),
        ({"outputs": [{"type": "ndjson", "path": "all.ndjson"}]}, "several streams need a folder"),
        ({"outputs": [RESULTS, RESULTS]}, "is the file of two outputs"),
        ({"outputs": [RESULTS, {"type": "redis", "url": "redis://h"}]}, "redis: with --ray recordings are"),
        ({"outputs": [RESULTS, {"type": "webhook", "url": "http://h"}]}, "webhook: with --ray recordings"),
        ({"view": {"enabled": True}}, "view.enabled: each engine of a cluster would serve its own"),
        ({"model": {"device": ["cpu", "cpu"]}}, "model.device: with --ray every device has its worker"),
    ],
)
def test_what_a_cluster_cannot_do(content: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        work(**content)


def test_cameras_and_files_are_handed_over_one_kind_at_a_time() -> None:
    both = parse_config({"streams": [{"url": "a.mp4"}, {"url": "rtsp://host/a"}]}, where="test")
    with pytest.raises(UsageError, match=r"a\.mp4 is a recording and rtsp://host/a a camera"):
        check_recorded(build_sources(both))
