"""The program is gone at once, as by a crash of the model: it leaves no process and no memory behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.broker import wait_for
from tests.support.media import write_clip
from tests.support.reading import is_running, worker_pids
from tests.support.runs import lines_in, resources, started
from tests.support.servers import rtsp_server


def ring_holders() -> list[str]:
    """Processes of this machine that look at a frame ring or keep one open."""
    holders = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(link) for link in (process / "fd").iterdir()]
            maps = (process / "maps").read_text()
        except OSError:  # it has just ended, or is not ours to look at
            continue
        if "memfd:streamseg-ring" in maps or any("memfd:streamseg-ring" in link for link in links):
            holders.append(process.name)
    return holders


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_nothing_outlives_the_program(tmp_path: Path, number: signal.Signals) -> None:
    """A camera and two files are read; one worker is stopped, as in a hang, and cannot react."""
    media, out = tmp_path / "media", tmp_path / "out"
    media.mkdir()
    for name, frames in (("cam.mp4", 100), ("a.mp4", 2000), ("b.mp4", 2000)):
        write_clip(media / name, frames=frames, width=96, height=64, bframes=0, gop=25)
    with rtsp_server(media) as camera:
        sources = (camera.url("cam.mp4"), media / "a.mp4", media / "b.mp4")
        with started(*sources, "--results", f"{out}/", seconds=0.01) as program:
            begun = [out / f"{name}.ndjson.partial" for name in ("127.0.0.1-cam.mp4", "a", "b")]
            wait_for(lambda: all(p.exists() and p.stat().st_size for p in begun), seconds=60, what="results")
            workers = worker_pids(program.pid)
            assert len(workers) == resources(program.pid)["rings"] == 3
            os.kill(workers[0], signal.SIGSTOP)
            program.send_signal(number)
            program.communicate(timeout=20)
        assert program.returncode == -number
        wait_for(lambda: not any(map(is_running, workers)), what="the end of the workers")
        assert not set(map(str, [program.pid, *workers])) & set(ring_holders())
    assert not [name for name in os.listdir("/dev/shm") if "streamseg" in name]
    assert lines_in(out) > 0
