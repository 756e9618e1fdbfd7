"""Lines of a file whose disk is full for a while."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamseg.errors import OutputGoneError
from streamseg.files import partial_path
from streamseg.outputs.lines import LineFile, patience_for_disk
from tests.support.broker import wait_for
from tests.support.disks import Filler, small_disk

LONG = b"x" * 5000 + b"\n"
"""More than the rest of a page: half of it fits on a disk that is full."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "40k") as mounted:
        if not mounted:
            pytest.skip("no disk can be mounted here")
        yield tmp_path / "disk"


def test_what_does_not_fit_is_written_when_there_is_room(disk: Path) -> None:
    path, patience = disk / "a", patience_for_disk("a")
    lines = LineFile(path, patience=patience)
    lines.write(b"one\n")
    filler = Filler(disk)
    writing = threading.Thread(target=lines.write, args=(LONG,))
    writing.start()
    wait_for(lambda: "No space left on device" in str(patience.trouble))
    assert partial_path(path).read_bytes() == b"one\n", "half a line is taken back"
    filler.remove()
    writing.join(20)
    assert patience.trouble is None
    lines.close(complete=True)
    assert path.read_bytes() == b"one\n" + LONG


def test_at_the_end_of_a_run_it_waits_no_longer_than_it_may(disk: Path) -> None:
    patience = patience_for_disk("a")
    patience.hurry(0.1)
    lines = LineFile(disk / "a", patience=patience)
    Filler(disk)
    with pytest.raises(OutputGoneError, match=r"the disk of a cannot be written to .*No space left"):
        lines.write(LONG)
    lines.close(complete=False)


def test_a_recording_fails_at_once(disk: Path) -> None:
    lines = LineFile(disk / "a")
    lines.write(b"one\n")
    Filler(disk)
    with pytest.raises(OutputGoneError, match=r"cannot write .*/a: No space left on device"):
        lines.write(LONG)
    lines.close(complete=False)
    assert partial_path(disk / "a").read_bytes() == b"one\n"
