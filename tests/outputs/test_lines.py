"""Lines of a file whose disk is full for a while."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from streamseg.errors import OutputGoneError
from streamseg.outputs.lines import LineFile, patience_for_disk
from tests.support.broker import wait_for


class OnSmallDisk(FileIO):
    """A file on a disk that takes so many bytes more."""

    room = 0

    def write(self, data: Any) -> int:
        taken = min(self.room, len(data))
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= taken
        return super().write(data[:taken])


@pytest.fixture
def small(tmp_path: Path) -> Iterator[OnSmallDisk]:
    with OnSmallDisk(tmp_path / "a", "wb") as file:
        yield file


def test_what_does_not_fit_is_written_when_there_is_room(tmp_path: Path, small: OnSmallDisk) -> None:
    small.room = 7
    patience = patience_for_disk("a")
    lines = LineFile(tmp_path / "a", small, patience=patience)
    lines.append(b"one\n")
    writing = threading.Thread(target=lines.append, args=(b"three\n",))
    writing.start()
    wait_for(lambda: "No space left on device" in str(patience.trouble))
    assert (tmp_path / "a").read_bytes() == b"one\n", "half a line is taken back"
    small.room = 100
    writing.join(20)
    assert patience.trouble is None
    assert (tmp_path / "a").read_bytes() == b"one\nthree\n"
    assert lines.size == 10


def test_at_the_end_of_a_run_it_waits_no_longer_than_it_may(tmp_path: Path, small: OnSmallDisk) -> None:
    patience = patience_for_disk("a")
    patience.hurry(0.1)
    with pytest.raises(OutputGoneError, match=r"the disk of a cannot be written to .*No space left"):
        LineFile(tmp_path / "a", small, patience=patience).append(b"one\n")


def test_a_recording_fails_at_once(tmp_path: Path, small: OnSmallDisk) -> None:
    with pytest.raises(OutputGoneError, match=r"cannot write .*/a: No space left on device"):
        LineFile(tmp_path / "a", small, patience=None).append(b"one\n")
