"""The overlay video when the process is killed or the disk is full."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest

from streamseg.errors import OutputError, UsageError
from streamseg.outputs import VideoOutput
from streamseg.types import StreamEnd
from tests.support.clips import frame, info, instances, read_video, result_of

UNFORTUNATE = """
    import resource, sys, time
    from streamseg.errors import OutputError
    from streamseg.outputs import VideoOutput
    from streamseg.types import StreamEnd
    from tests.support.clips import frame, info, instances, result_of

    def write(name, count):
        writer = VideoOutput(f"{sys.argv[1]}/{name}.mp4").open(info())
        try:
            for f in map(frame, range(count)):
                writer.write(result_of(f), f, instances())
            return writer
        except OutputError as error:
            print(error)
        try:
            writer.close(StreamEnd.FAILED)
        except OutputError as error:
            print(error)

    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))
    write("filled", 2000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    writer = write("killed", 200)
    print("written", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def unfortunate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Where a process wrote a video on a disk that filled up, then one until it was killed; what it said."""
    folder = tmp_path_factory.mktemp("unfortunate")
    command = [sys.executable, "-c", textwrap.dedent(UNFORTUNATE), str(folder)]
    root, said = Path(__file__).parents[2], []
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "written\n":
                os.kill(process.pid, signal.SIGKILL)
            else:
                said.append(line)
    assert process.returncode == -signal.SIGKILL
    return folder, said


def test_a_killed_process_leaves_a_file_that_plays(unfortunate: tuple[Path, list[str]]) -> None:
    times, _ = read_video(unfortunate[0] / "killed.mp4.partial")
    assert len(times) >= 200 - 3 * 25
    np.testing.assert_allclose(times, np.arange(len(times)) / 25)


def test_a_disk_that_fills_up_later_is_an_error_too(unfortunate: tuple[Path, list[str]]) -> None:
    folder, said = unfortunate
    assert said[0].startswith(f"cannot write {folder}/filled.mp4")
    assert "File too large" in "".join(said)
    decoded = 0
    with av.open(str(folder / "filled.mp4.partial")) as container, contextlib.suppress(av.InvalidDataError):
        for _ in container.decode(video=0):  # until the packet that did not fit
            decoded += 1
    assert decoded > 10


def test_a_full_disk_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "a.mp4.partial").symlink_to("/dev/full")
    writer = VideoOutput(str(tmp_path / "a.mp4")).open(info())

    def write() -> None:
        for f in map(frame, range(200)):
            writer.write(result_of(f), f, instances())

    with pytest.raises(OutputError, match=r"cannot write .*a\.mp4.*: No space left"):
        write()
    writer.close(StreamEnd.FAILED)
    assert not (tmp_path / "a.mp4").exists()


def test_the_source_is_not_replaced_by_its_overlay(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_text("the only copy")
    with pytest.raises(UsageError, match=r"a\.mp4 is the source itself"):
        VideoOutput(str(source)).open(info(url=str(source)))
    assert source.read_text() == "the only copy"
