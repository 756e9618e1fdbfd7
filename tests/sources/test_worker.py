from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamseg.sources import Source, SourcePool, Timing, resolve_sources
from streamseg.sources.messages import (
    Alive,
    Decoded,
    Ended,
    Open,
    Opened,
    Release,
    Stop,
    parent_channel,
    worker_channel,
)
from streamseg.sources.worker_process import WorkerProcess
from tests.support.media import write_clip
from tests.support.reading import Listener, is_running, wait_until, worker_pids


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", frames=60)


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    process = WorkerProcess()
    yield process
    if process.channel.fileno() >= 0:
        process.end(kill=True)


def receive(worker: WorkerProcess):
    found = []

    def arrived() -> bool:
        try:
            found.append(worker.channel.receive())
        except BlockingIOError:
            return False
        return True

    wait_until(arrived)
    return receive(worker) if found[0] and isinstance(found[0][0], Alive) else found[0]


def test_messages_and_file_descriptors_cross_the_socket() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent, worker = parent_channel(ours), worker_channel(theirs.detach())
    source = Source(id="a", url="rtsp://me:secret@host/a", live=True, transport="udp")
    request = Open(job=3, source=source, first_index=9, slots=8, max_ring_bytes=1)
    parent.send(request)
    assert worker.receive() == (request, None)
    read_end, write_end = os.pipe()
    worker.send(Ended(3, "why"), fd=write_end)
    message, fd = parent.receive()
    os.write(fd, b"x")
    assert message == Ended(3, "why")
    assert os.read(read_end, 9) == b"x"
    with pytest.raises(BlockingIOError):
        parent.receive()
    worker.close()
    assert parent.receive() is None
    for number in (fd, read_end, write_end):
        os.close(number)
    parent.close()


def test_a_worker_waits_for_slots_and_does_one_job_after_the_other(worker: WorkerProcess, clip: Path) -> None:
    (source,) = resolve_sources([str(clip)], stride=20)
    for job in (1, 2):
        worker.send(Open(job=job, source=source, first_index=100, slots=3, max_ring_bytes=1 << 30))
    for job in (1, 2):
        opened, fd = receive(worker)
        os.close(fd)
        assert isinstance(opened, Opened)
        assert (opened.job, opened.width, opened.height, opened.slots) == (job, 320, 240, 3)
        frames = [receive(worker)[0] for _ in range(3)]
        assert [(frame.job, frame.index) for frame in frames] == [(job, 100), (job, 120), (job, 140)]
        assert receive(worker) == (Ended(job, None), None)


def test_a_release_of_an_earlier_ring_is_ignored_and_stop_ends_the_worker(
    worker: WorkerProcess, clip: Path
) -> None:
    (source,) = resolve_sources([str(clip)])
    worker.send(Open(job=2, source=source, first_index=0, slots=3, max_ring_bytes=1 << 30))
    os.close(receive(worker)[1])
    slots = [receive(worker)[0].slot for _ in range(3)]
    worker.send(Release(job=1, slots=(slots[0],)))
    worker.send(Release(job=2, slots=(slots[1],)))
    assert isinstance(following := receive(worker)[0], Decoded)
    assert following.slot == slots[1]
    worker.stop()
    while receive(worker) is not None:
        pass
    assert worker.end() == "exited with status 0"


def test_stop_reaches_a_worker_without_a_job(worker: WorkerProcess) -> None:
    worker.send(Stop())
    assert receive(worker) is None
    assert worker.end() == "exited with status 0"


def test_a_worker_that_is_already_dead_is_no_surprise(worker: WorkerProcess) -> None:
    os.kill(worker.pid, signal.SIGSEGV)
    wait_until(lambda: not is_running(worker.pid))
    worker.stop()
    assert worker.end() == "was killed by SIGSEGV"


def test_signals_to_the_whole_group_are_left_to_the_parent(clip: Path) -> None:
    listener = Listener(keep_frames=True)
    with SourcePool(resolve_sources([str(clip)]), emit=listener, slots=4):
        # At once, while the worker's interpreter is still starting, and again when it reads.
        wait_until(lambda: worker_pids(os.getpid()))
        (pid,) = worker_pids(os.getpid())
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        listener.wait(lambda: len(listener.frames) == 4)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        listener.keep_frames = False
        listener.frames.clear()
        listener.wait_for_end("clip")
    assert listener.ended["clip"].error is None
    assert len(listener.counters("clip")) == 60


def test_arguments_and_environment_hold_no_password(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://me:secret@127.0.0.1:{silent.getsockname()[1]}/a"
        with SourcePool(resolve_sources([url]), emit=Listener()):
            silent.settimeout(40)
            connection, _ = silent.accept()
            (pid,) = worker_pids(os.getpid())
            for name in ("cmdline", "environ"):
                assert b"secret" not in Path(f"/proc/{pid}/{name}").read_bytes()
            connection.close()


PARENT = """
import os, sys, time
from streamseg.sources import SourcePool, resolve_sources
from streamseg.types import Frame
held = []
pool = SourcePool(resolve_sources(sys.argv[1:]), emit=held.append)
pool.start()
# Both work by then: a worker asks to die with us when it begins, and cannot while it is stopped.
while len({event.stream for event in held if isinstance(event, Frame)}) < 2:
    time.sleep(0.01)
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(600)
"""


def test_workers_exit_when_their_parent_is_killed_even_stopped_and_while_a_fork_lives(clip: Path) -> None:
    other = clip.with_name("other.mp4")
    os.link(clip, other)
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(clip), str(other)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        fork = int(parent.stdout.readline())
        try:
            pids = worker_pids(parent.pid)
            assert len(pids) == 2
            os.kill(pids[0], signal.SIGSTOP)
            parent.kill()
            parent.wait()
            wait_until(lambda: not any(is_running(pid) for pid in pids))
            assert is_running(fork)
        finally:
            os.kill(fork, signal.SIGKILL)
    # The frame ring has no name in the file system: it went with the last process that looked at it.
    assert [name for name in os.listdir("/dev/shm") if "streamseg" in name] == []


def test_a_worker_that_ignores_everything_is_killed_at_the_end(clip: Path) -> None:
    listener = Listener(keep_frames=True)
    with SourcePool(resolve_sources([str(clip)]), emit=listener, timing=Timing(grace=0.2)):
        listener.wait(lambda: len(listener.frames) == 8)
        (pid,) = worker_pids(os.getpid())
        os.kill(pid, signal.SIGSTOP)
    assert not is_running(pid)
    assert listener.ended["clip"].error is None
