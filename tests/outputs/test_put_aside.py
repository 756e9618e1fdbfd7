"""What a killed run left of a camera is not overwritten by the next one; a recording is read again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from streamseg.files import partial_path
from streamseg.outputs import NdjsonOutput, VideoOutput
from streamseg.outputs.events import EventsOutput
from streamseg.types import Output, StreamEnd, StreamWriter
from tests.support.clips import frame, happening, info, instances
from tests.support.program import read_video

KINDS = pytest.mark.parametrize(
    ("make", "name"),
    [(NdjsonOutput, "cam.ndjson"), (EventsOutput, "cam.events.ndjson"), (VideoOutput, "cam.mp4")],
)


@contextmanager
def writing(output: Output, *, live: bool = True, frames: int = 80) -> Iterator[StreamWriter]:
    """A writer that has written some frames and is not closed, as when its process is killed then."""
    writer = output.open(info(live=live))
    for number in range(frames):
        writer.write(happening(number, stream="cam"), frame(number, at=number / 25), instances())
    try:
        yield writer
    finally:
        writer.close(StreamEnd.FAILED)


@KINDS
def test_what_is_left_of_a_camera_gets_the_next_free_name(
    tmp_path: Path, make: Callable[[str], Output], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / name
    partial, aside = partial_path(path), [tmp_path / f"{name}.partial.{number}" for number in (1, 2)]
    with writing(make(str(path))):
        first = partial.read_bytes()
        with writing(make(str(path)), frames=60):
            second = partial.read_bytes()
            last = make(str(path)).open(info(live=True))
            assert [kept.read_bytes() for kept in aside] == [first, second]
            last.write(happening(0, stream="cam"), frame(0), instances())
            last.close(StreamEnd.ENDED)
    assert first
    assert second
    assert sorted(tmp_path.iterdir()) == sorted([path, *aside])
    for kept in aside:
        assert f"stream cam: what an earlier run left in {partial} is kept as {kept}" in caplog.text


@KINDS
def test_a_recording_begins_its_file_anew(tmp_path: Path, make: Callable[[str], Output], name: str) -> None:
    path = tmp_path / name
    with writing(make(str(path)), live=False):
        assert partial_path(path).stat().st_size > 0
        again = make(str(path)).open(info())
        again.write(happening(0, stream="cam"), frame(0), instances())
        again.close(StreamEnd.ENDED)
        assert list(tmp_path.iterdir()) == [path]


def test_so_do_the_later_parts_of_a_video(tmp_path: Path) -> None:
    left = tmp_path / "cam.part2.mp4.partial"
    left.write_bytes(b"an hour of an earlier run")
    writer = VideoOutput(str(tmp_path / "cam.mp4"), part_seconds=1).open(info(live=True))
    for number in range(40):
        writer.write(happening(number, stream="cam"), frame(number, at=number / 25), instances())
    writer.close(StreamEnd.ENDED)
    assert (tmp_path / "cam.part2.mp4.partial.1").read_bytes() == b"an hour of an earlier run"
    assert len(read_video(tmp_path / "cam.part2.mp4").seconds) == 15
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cam.mp4",
        "cam.part2.mp4",
        "cam.part2.mp4.partial.1",
    ]
