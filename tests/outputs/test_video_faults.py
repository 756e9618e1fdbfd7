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
from tests.support.clips import frame, info, instances, read_video, result_of


def write(output: VideoOutput, n: int) -> None:
    for f in map(frame, range(n)):
        output.write(result_of(f), f, instances())


KILLED = """
    from pathlib import Path
    import sys, time
    from streamseg.outputs import VideoOutput
    from tests.support.clips import frame, info, instances, result_of
    output = VideoOutput(sys.argv[1])
    output.open(info())
    for i in range(200):
        f = frame(i)
        output.write(result_of(f), f, instances())
    print("written", flush=True)
    time.sleep(60)
"""


def test_a_killed_process_leaves_a_file_that_plays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path / "a.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
    times, _ = read_video(tmp_path / "a.mp4.partial")
    assert len(times) >= 200 - 3 * 25
    np.testing.assert_allclose(times, np.arange(len(times)) / 25)


def test_a_full_disk_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "a.mp4.partial").symlink_to("/dev/full")
    output = VideoOutput(str(tmp_path / "a.mp4"))
    output.open(info())
    with pytest.raises(OutputError, match=r"cannot write .*a\.mp4.*: No space left"):
        write(output, 200)
    output.close("cam", complete=False)
    assert not (tmp_path / "a.mp4").exists()


FILLED = """
    import resource, sys
    from streamseg.errors import OutputError, UsageError
    from streamseg.outputs import VideoOutput
    from tests.support.clips import frame, info, instances, result_of
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    output = VideoOutput(sys.argv[1])
    output.open(info())
    try:
        for i in range(2000):
            f = frame(i)
            output.write(result_of(f), f, instances())
    except OutputError as error:
        print(error)
    try:
        output.close("cam", complete=False)
    except OutputError as error:
        print(error)
"""


def test_a_disk_that_fills_up_later_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(FILLED), str(tmp_path / "a.mp4")]
    done = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2], text=True, check=True)
    assert done.stdout.startswith(f"cannot write {tmp_path}/a.mp4")
    assert "File too large" in done.stdout
    decoded = 0
    with av.open(str(tmp_path / "a.mp4.partial")) as container, contextlib.suppress(av.InvalidDataError):
        for _ in container.decode(video=0):  # until the packet that did not fit
            decoded += 1
    assert decoded > 10


def test_the_source_is_not_replaced_by_its_overlay(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_text("the only copy")
    with pytest.raises(UsageError, match=r"a\.mp4 is the source itself"):
        VideoOutput(str(source)).open(info(url=str(source)))
    assert source.read_text() == "the only copy"
