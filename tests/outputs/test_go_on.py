"""A camera whose owner is gone: another writes on behind what is there, and leaves older files alone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streamseg.outputs import NdjsonOutput, VideoOutput
from streamseg.outputs.events import EventsOutput
from streamseg.types import Output, StreamEnd
from tests.support.clips import frame, info, instances, result_of
from tests.support.program import read_results, read_video

YESTERDAY = 86400


def write(output: Output, *numbers: int, epoch: int = 0) -> None:
    writer = output.open(info(live=True))
    for number in numbers:
        pictured = frame(number, epoch=epoch)
        writer.write(result_of(pictured), pictured, instances())
    writer.close(StreamEnd.ENDED)


def numbers(path: Path) -> list[tuple[int, int]]:
    return [(result["epoch"], result["frame"]) for result in read_results(path)]


@pytest.mark.parametrize("killed", [True, False])
def test_results_go_on_behind_the_whole_lines(tmp_path: Path, killed: bool) -> None:
    began = time.time() - 1
    path = tmp_path / "cam.ndjson"
    write(NdjsonOutput(str(path)), 0, 1)
    if killed:
        torn = b'{"v": 1, "stream"' + 70_000 * b" "
        (tmp_path / "cam.ndjson.partial").write_bytes(path.read_bytes() + torn)
        path.unlink()
    later = NdjsonOutput(str(path))
    later.go_on("cam", since=began)
    write(later, 0, 1, 2, epoch=1)
    assert numbers(path) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["cam.ndjson", "cam.ndjson.partial"])
def test_files_of_a_former_run_are_not_gone_on_with(tmp_path: Path, name: str) -> None:
    old = tmp_path / name
    old.write_text('{"old": true}\n')
    os.utime(old, (time.time() - YESTERDAY,) * 2)
    output = NdjsonOutput(str(tmp_path / "cam.ndjson"))
    output.go_on("cam", since=time.time() - 1)
    write(output, 0)
    assert numbers(tmp_path / "cam.ndjson") == [(0, 0)]


@pytest.mark.parametrize("kind", [NdjsonOutput, EventsOutput, VideoOutput])
def test_a_camera_that_does_not_open_again_keeps_its_files(
    tmp_path: Path, kind: Callable[[str], NdjsonOutput | EventsOutput | VideoOutput]
) -> None:
    """As when the run is stopped while the camera is on its way to another owner."""
    began, path = time.time() - 1, tmp_path / "cam.mp4"
    write(kind(str(path)), 0, 1)
    later = kind(str(path))
    before = path.read_bytes()
    later.go_on("cam", since=began)
    later.shutdown()
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


def test_events_go_on_behind_the_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "cam.events.ndjson"
    path.write_text('{"event": "enter"}\n{"event": "le')
    output = EventsOutput(str(path))
    output.go_on("cam", since=time.time() - 60)
    write(output, 0)
    assert path.read_text() == '{"event": "enter"}\n'


def test_a_video_goes_on_in_the_next_part(tmp_path: Path) -> None:
    began, path = time.time() - 1, str(tmp_path / "cam.mp4")
    write(VideoOutput(path), 0, 1)
    for owner in (1, 2):
        output = VideoOutput(path)
        output.go_on("cam", since=began)
        write(output, 0, 1, 2, epoch=owner)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cam.mp4", "cam.part2.mp4", "cam.part3.mp4"]
    assert len(read_video(tmp_path / "cam.mp4").seconds) == 2
    assert len(read_video(tmp_path / "cam.part3.mp4").seconds) == 3
