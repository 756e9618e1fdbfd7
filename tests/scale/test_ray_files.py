"""Files on a Ray cluster, while workers, nodes, the queue and the command are killed at random."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.broker import wait_for
from tests.support.media import write_clip
from tests.support.program import ROOT
from tests.support.ray_cluster import RunningCluster, running_cluster
from tests.support.reading import children, command_line
from tests.support.runs import run_here

pytest.importorskip("ray")

PATIENCE = 300.0
_CLOCK = re.compile(rb'"(?:time|latency_ms)":[0-9.]+')
_WORKER, _QUEUE = b"ray::_FileWorkerActor", b"ray::_FilesActor"


def write_files(folder: Path, count: int) -> Path:
    """So many files of three to five frames, which all differ."""
    folder.mkdir()
    for k in range(count):
        path = folder / f"c{k:03}.mp4"
        write_clip(path, frames=3 + k % 3, width=64, height=48, first_number=10 * k, bframes=0)
    return folder


def content(path: Path) -> bytes:
    """A file of results but for its times."""
    return _CLOCK.sub(b"", path.read_bytes())


def check_results(out: Path, alone: Path) -> None:
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in alone.iterdir())
    for path in alone.iterdir():
        assert content(out / path.name) == content(path), path.name


def processes(title: bytes) -> list[int]:
    """Of our own clusters: those of Ray's workers with that title."""
    found = [os.getpid()]
    for pid in found:
        found += children(pid)
    return [pid for pid in found if command_line(pid).startswith(title)]


def kill(pids: list[int]) -> bool:
    if not pids:
        return False
    with suppress(ProcessLookupError):
        os.kill(random.choice(pids), signal.SIGKILL)
    return True


def command(cluster: RunningCluster, folder: Path, seconds: float) -> list[str]:
    arguments = [folder / "in", "--results", f"{folder}/out/", "--weights", seconds, "--no-progress"]
    return [sys.executable, "-m", "streamseg", "run", *map(str, arguments), "--ray", cluster.address]


@contextmanager
def at_work(cluster: RunningCluster, folder: Path, *, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """The command; ``seconds`` for each picture."""
    with subprocess.Popen(
        command(cluster, folder, seconds), cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def done(folder: Path) -> int:
    return len(list((folder / "out").glob("*.ndjson")))


@pytest.mark.timeout(900)
def test_every_file_is_done_once_whatever_is_killed(tmp_path: Path) -> None:
    files = write_files(tmp_path / "in", 12)
    alone = tmp_path / "alone"
    alone.mkdir()
    run_here(files, results=alone)
    with running_cluster(2) as cluster:
        with at_work(cluster, tmp_path, seconds=0.2) as program:
            wait_for(lambda: done(tmp_path) >= 2, seconds=PATIENCE, what="results")
            program.kill()  # the cluster goes on by itself
        assert kill(processes(_WORKER))
        before = done(tmp_path)
        wait_for(lambda: done(tmp_path) > before, seconds=PATIENCE, what="more results")
        with at_work(cluster, tmp_path, seconds=0.2) as program:  # the same command
            _, said = program.communicate(timeout=PATIENCE)
        assert program.returncode == 0, said
        check_results(tmp_path / "out", alone)
        (tmp_path / "out" / "c003.ndjson").unlink()
        (tmp_path / "in" / "bad.mp4").write_bytes(b"this is no video")
        with at_work(cluster, tmp_path, seconds=0.0) as program:
            _, said = program.communicate(timeout=PATIENCE)
        assert program.returncode == 1
        assert "3 frames of 1 files" in said
        assert "11 files were finished before" in said
        assert "error: bad was set aside: " in said
        assert f"all of them are in {tmp_path}/out/set-aside.jsonl" in said


_TROUBLES = ("worker", "node", "worker", "queue", "worker", "command", "stopped node")
"""What happens, over and over; "command": it is given again."""


def cause(trouble: str, cluster: RunningCluster, draw: random.Random) -> None:
    match trouble:
        case "worker":
            kill(processes(_WORKER))
        case "queue":
            kill(processes(_QUEUE))
        case "node":
            cluster.kill_node(draw.choice(cluster.nodes()))
            cluster.add_node()
        case "stopped node":  # longer than a lease
            node = draw.choice(cluster.nodes())
            cluster.signal_node(node, signal.SIGSTOP)
            time.sleep(20)
            cluster.signal_node(node, signal.SIGCONT)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_two_hundred_files_on_three_nodes_with_kills_at_random(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write_files(tmp_path / "in", 200)
    alone = tmp_path / "alone"
    alone.mkdir()
    run_here(files, results=alone)
    began, draw, happened = time.monotonic(), random.Random(18), list[str]()
    with running_cluster(3) as cluster, (tmp_path / "said").open("w") as said:

        def give() -> subprocess.Popen[str]:
            return subprocess.Popen(command(cluster, tmp_path, 0.3), cwd=ROOT, stderr=said, text=True)

        program = give()
        wait_for(lambda: done(tmp_path) >= 3, seconds=PATIENCE, what="results")
        while True:
            with suppress(subprocess.TimeoutExpired):
                program.wait(draw.uniform(3, 7))
                break
            trouble = _TROUBLES[len(happened) % len(_TROUBLES)]
            happened.append(trouble)
            cause(trouble, cluster, draw)
            if trouble == "command":
                program.kill()
                program.wait()
                program = give()
    told = (tmp_path / "said").read_text()
    with capsys.disabled():
        sys.stdout.write(f"\nafter {time.monotonic() - began:.0f} s, with {happened}:\n{told}\n")
    assert program.returncode == 0, told
    check_results(tmp_path / "out", alone)
    assert set(_TROUBLES[:-1]) <= set(happened)
