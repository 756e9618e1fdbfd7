"""What a pool takes, gives back and looks at; the test plays the workers, so that no process is started."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections import deque
from pathlib import Path

from streamseg.sources import Source, SourcePool, Timing, resolve_sources
from streamseg.sources.receiver import MOST_STARTING
from streamseg.types import StreamState
from tests.support.media import write_clip
from tests.support.reading import Listener, PlayedWorker, is_running, played_workers, wait_until, worker_pids

BRIEF = Timing(grace=0.05)
"""Played workers do not exit when they are asked to."""
SOURCES = str(Path("streamseg") / "sources")


def camera(name: str) -> Source:
    return Source(id=name, url="rtsp://host/a", live=True, read_timeout=60)


def recording(name: str) -> Source:
    return Source(id=name, url="/tmp/a.mp4", live=False)


def resources() -> tuple[int, int]:
    """Threads and file descriptors of this process."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def test_a_pool_takes_nothing_before_it_starts() -> None:
    before = resources()
    pools = [SourcePool([camera("a")], emit=Listener()) for _ in range(10)]
    assert resources() == before
    assert not any(pool.running for pool in pools)


def test_leaving_gives_all_back_but_what_frames_need() -> None:
    gc.collect()
    before = resources()
    listener = Listener(keep_frames=True)
    with played_workers() as workers, SourcePool([camera("a")], emit=listener, timing=BRIEF) as pool:
        wait_until(lambda: workers)
        workers[0].open()
        workers[0].send_frame(0)
        listener.wait(lambda: listener.frames)
        assert pool.running
    workers.clear()
    assert not pool.running
    wait_until(lambda: resources()[0] == before[0])  # a thread that was joined is gone a moment later
    assert resources()[1] == before[1] + 2, "the ring's memory, and what a slot is given back by"
    listener.frames.clear()
    assert resources() == before


def test_a_pool_that_was_stopped_before_its_start_ends_every_stream() -> None:
    listener = Listener()
    pool = SourcePool([camera("a"), recording("b")], emit=listener)
    pool.stop()
    with pool:
        listener.wait_for_end("a", "b")
    assert {change.state for change in listener.changes} == {StreamState.ENDED}
    assert not pool.add(camera("c"))


def open_all(workers: list[PlayedWorker], count: int) -> None:
    """Workers come as others have answered."""
    for number in range(count):
        wait_until(lambda number=number: len(workers) > number)
        workers[number].open()


def test_cameras_are_begun_as_others_have_started() -> None:
    listener = Listener()
    names = [f"cam{number}" for number in range(MOST_STARTING + 3)]
    with (
        played_workers() as workers,
        SourcePool([camera(name) for name in names], emit=listener, timing=BRIEF) as pool,
    ):
        wait_until(lambda: len(workers) == MOST_STARTING)
        pool.remove(names[-1])  # one that was not begun
        listener.wait_for_end(names[-1])
        assert len(workers) == MOST_STARTING
        workers[0].open()
        wait_until(lambda: len(workers) == MOST_STARTING + 1)
        workers[1].kill()  # it will never answer
        wait_until(lambda: len(workers) == MOST_STARTING + 2)
        pool.stop()
        listener.wait_for_end(*names)
    assert [change.stream for change in listener.changes].count(names[-1]) == 1


def calls_for_a_frame(cameras: int) -> float:
    """Calls of functions of the package, per frame of one camera among so many."""
    calls, frames = 0, 20
    listener = Listener()

    def count(frame, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call" and SOURCES in frame.f_code.co_filename

    pool = SourcePool([camera(f"cam{number}") for number in range(cameras)], emit=listener, timing=BRIEF)
    with played_workers() as workers:
        threading.setprofile(count)
        try:
            pool.start()
        finally:
            threading.setprofile(None)
        with pool:
            open_all(workers, cameras)
            listener.wait(lambda: len(listener.infos) == cameras)
            for index in range(1 + frames):
                workers[0].send_frame(index)
                workers[0].take_release()
                if index == 0:
                    before = calls  # from here on nothing happens but these frames
            assert len(listener.seen["cam0"]) == 1 + frames
            return (calls - before) / frames


def test_a_frame_costs_the_same_among_ten_and_among_a_hundred_cameras() -> None:
    among_ten = calls_for_a_frame(10)
    assert among_ten > 10, "nothing was counted"
    assert calls_for_a_frame(100) < 1.1 * among_ten


def test_both_clocks_are_those_of_the_worker() -> None:
    listener = Listener()
    with played_workers() as workers, SourcePool([camera("a")], emit=listener, timing=BRIEF):
        wait_until(lambda: workers)
        workers[0].open()
        workers[0].send_frame(0, time=1.79e9, decoded_at=123.5)
        listener.wait(lambda: listener.seen)
    assert (listener.seen["a"][0].time, listener.seen["a"][0].decoded_at) == (1.79e9, 123.5)


def test_a_recording_under_a_former_cameras_id_is_an_epoch_of_its_own() -> None:
    listener = Listener()
    with (
        played_workers() as workers,
        SourcePool([camera("a"), camera("b")], emit=listener, timing=BRIEF) as pool,
    ):
        wait_until(lambda: len(workers) == 2)
        played = workers[0]
        for source in (None, recording("a"), camera("a")):
            if source is not None:
                known = len(workers)
                pool.remove("a")
                pool.add(source)
                wait_until(lambda known=known: len(workers) > known)
                played = workers[-1]
            played.open()
            for index in range(3):
                played.send_frame(index)
                played.take_release()
    numbers = [(seen.epoch, seen.index) for seen in listener.seen["a"]]
    recorded, again = [(1, 0), (1, 1), (1, 2)], [(2, 3), (2, 4), (2, 5)]
    assert numbers == [(0, 0), (0, 1), (0, 2), *recorded, *again]
    assert listener.dropped == 0
    assert [change.stream for change in listener.changes].count("b") == 2, "connecting and ended"


def test_a_stopped_worker_whose_socket_is_full_is_not_taken_for_dead(tmp_path: Path) -> None:
    slots, frames = 400, 420
    write_clip(tmp_path / "a.mp4", frames=frames, width=64, height=48)
    os.link(tmp_path / "a.mp4", tmp_path / "b.mp4")
    first, second = resolve_sources([str(tmp_path)])
    listener = Listener(keep_frames=True)
    with SourcePool([first], emit=listener, slots=slots) as pool:
        listener.wait(lambda: len(listener.frames) == slots)
        (pid,) = worker_pids(os.getpid())
        assert pool.add(second)
        listener.wait(lambda: len(listener.frames) == 2 * slots)
        os.kill(pid, signal.SIGSTOP)
        listener.keep_frames = False
        held = deque(listener.frames)
        listener.frames.clear()
        while held:
            held.popleft()  # the first file's frames first: they are dealt with when the second one goes on
        listener.wait_for_end("b")
        assert is_running(pid)
        assert "a" not in listener.ended
        os.kill(pid, signal.SIGCONT)
        listener.wait_for_end("a")
    assert [listener.ended[name].error for name in "ab"] == [None, None]
    assert [len(listener.seen[name]) for name in "ab"] == [frames, frames]


def test_a_worker_without_a_word_is_replaced_when_its_time_is_up() -> None:
    listener = Listener()
    timing = Timing(start=0.05, first_frame=0.0)
    source = Source(id="a", url="rtsp://host/a", live=True, open_timeout=0.05, reconnect_attempts=0)
    with played_workers() as workers, SourcePool([source], emit=listener, timing=timing):
        listener.wait_for_end("a")
    assert len(workers) == 1
    assert "its decode worker gave" in listener.error("a")
