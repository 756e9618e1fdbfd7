from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamseg.sources import Backoff, Source, SourcePool, Timing, resolve_sources
from streamseg.types import FramePolicy
from tests.support.media import write_clip
from tests.support.reading import PATIENCE, Listener, wait_until, worker_pids
from tests.support.servers import RtspServer, free_port, rtsp_server

QUICK = Backoff(first=0.05, longest=0.2)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "clip.mp4", frames=100, bframes=0, gop=10)
    write_clip(folder / "short.mp4", frames=30, bframes=0, gop=10)
    return folder


@pytest.fixture(scope="module")
def steady(media: Path) -> Iterator[RtspServer]:
    """A server that no test disturbs."""
    with rtsp_server(media) as running:
        yield running


@pytest.fixture
def server(media: Path) -> Iterator[RtspServer]:
    """A server that a test may kill or freeze."""
    with rtsp_server(media) as running:
        yield running


def camera(url: str, *, read_timeout: float = 5.0) -> Source:
    return Source(id="cam", url=url, live=True, read_timeout=read_timeout)


def frames_of(listener: Listener, epoch: int) -> int:
    return sum(seen.epoch == epoch for seen in listener.seen.get("cam", []))


def test_a_camera_is_read(steady: RtspServer) -> None:
    listener = Listener()
    began, ready = time.time(), time.monotonic()
    with SourcePool([camera(steady.url("clip.mp4"))], emit=listener):
        listener.wait(lambda: frames_of(listener, 0) >= 40)
    (info,) = listener.infos
    assert (info.width, info.height, info.fps, info.frame_count) == (320, 240, 25.0, None)
    assert (info.policy, info.epoch) == (FramePolicy.NEWEST_FRAME, 0)
    seen = listener.seen["cam"]
    indices, ticks = np.array([(frame.index, frame.ticks) for frame in seen]).T
    assert (np.diff(indices) > 0).all()
    assert np.allclose(np.diff(ticks) * float(info.time_base), np.diff(indices) / 25, atol=0.002)
    assert [frame.counter for frame in seen] == [
        (seen[0].counter - seen[0].index + index) % 100 for index in indices
    ]
    assert began < seen[0].time < seen[-1].time < time.time()
    assert ready < seen[0].decoded_at < seen[-1].decoded_at < time.monotonic()
    assert listener.ended["cam"].error is None


def test_frames_that_find_no_slot_are_dropped_and_counted(steady: RtspServer) -> None:
    listener = Listener(keep_frames=True)
    with SourcePool([camera(steady.url("clip.mp4"))], emit=listener, slots=3):
        listener.wait(lambda: listener.dropped >= 25)
        assert len(listener.frames) == 3
        listener.keep_frames = False
        listener.frames.clear()
        listener.wait(lambda: len(listener.seen["cam"]) >= 20)
        listener.wait(lambda: listener.dropped >= 25)
    seen = listener.seen["cam"]
    gap = seen[3].index - seen[2].index - 1
    assert 25 <= gap <= listener.dropped
    assert {event.reason for event in listener.events if hasattr(event, "reason")} == {"busy"}


def test_a_dead_camera_is_a_loss_and_a_new_epoch_follows(server: RtspServer) -> None:
    listener = Listener()
    with SourcePool([camera(server.url("clip.mp4"))], emit=listener, backoff=QUICK):
        listener.wait(lambda: frames_of(listener, 0) >= 10)
        server.kill()
        listener.wait(lambda: listener.states("cam")[-1] == "connecting")
        server.start()
        listener.wait(lambda: frames_of(listener, 1) >= 10)
    assert [info.epoch for info in listener.infos] == [0, 1]
    indices = [seen.index for seen in listener.seen["cam"]]
    assert indices == sorted(set(indices))
    later = [seen for seen in listener.seen["cam"] if seen.epoch == 1]
    assert later[0].index > frames_of(listener, 0) - 1
    assert listener.decoded("cam") == indices[-1] + 1, "a frame has no result and was not counted"
    assert listener.states("cam") == ["connecting", "live", "connecting", "live", "ended"]
    assert listener.last("cam").reconnects == 1


def test_the_end_of_a_live_stream_is_a_loss(steady: RtspServer) -> None:
    listener = Listener()
    source = camera(steady.url("short.mp4", loop=False))
    with SourcePool([source], emit=listener, backoff=QUICK):
        listener.wait(lambda: frames_of(listener, 1) >= 5)
        assert not listener.ended


def test_a_camera_that_goes_silent_is_stalled_until_it_is_back(server: RtspServer) -> None:
    listener = Listener()
    source = Source(id="cam", url=server.url("clip.mp4"), live=True, open_timeout=0.5, read_timeout=1.0)
    with SourcePool([source], emit=listener, backoff=QUICK):
        listener.wait(lambda: frames_of(listener, 0) >= 10)
        (pid,) = worker_pids(os.getpid())
        server.freeze()
        listener.wait(lambda: "stalled" in listener.states("cam"))
        assert "no frame for 1 s" in str(listener.last("cam").error)
        assert pid not in worker_pids(os.getpid())
        # The connection is accepted by the kernel; nobody answers.
        listener.wait(lambda: "no answer in time" in str(listener.last("cam").error))
        server.thaw()
        listener.wait(lambda: frames_of(listener, 1) >= 5)
    assert listener.states("cam") == ["connecting", "live", "stalled", "connecting", "live", "ended"]


def test_one_silent_camera_does_not_disturb_another(server: RtspServer, steady: RtspServer) -> None:
    listener = Listener()
    sources = [
        camera(server.url("clip.mp4"), read_timeout=PATIENCE),
        Source(id="other", url=steady.url("clip.mp4"), live=True),
    ]
    with SourcePool(sources, emit=listener):
        listener.wait(lambda: {"cam", "other"} <= set(listener.seen))
        server.freeze()
        before = len(listener.seen["other"])
        listener.wait(lambda: len(listener.seen["other"]) >= before + 30, PATIENCE / 2)


def test_a_crashed_worker_is_replaced(steady: RtspServer) -> None:
    listener = Listener()
    with SourcePool([camera(steady.url("clip.mp4"))], emit=listener, backoff=QUICK):
        for epoch, number in enumerate((signal.SIGKILL, signal.SIGSEGV)):
            listener.wait(lambda epoch=epoch: frames_of(listener, epoch) >= 5)
            (pid,) = worker_pids(os.getpid())
            os.kill(pid, number)
            listener.wait(lambda epoch=epoch: frames_of(listener, epoch + 1) >= 5)
            assert worker_pids(os.getpid()) not in ([], [pid])
            assert f"the decode worker was killed by {number.name}" in str(listener.last("cam").error)


def test_a_stopped_worker_is_replaced(steady: RtspServer) -> None:
    listener = Listener()
    with SourcePool([camera(steady.url("clip.mp4"), read_timeout=1.0)], emit=listener, backoff=QUICK):
        listener.wait(lambda: frames_of(listener, 0) >= 5)
        (pid,) = worker_pids(os.getpid())
        os.kill(pid, signal.SIGSTOP)
        listener.wait(lambda: frames_of(listener, 1) >= 5)
        assert pid not in worker_pids(os.getpid())
    assert listener.states("cam") == ["connecting", "live", "stalled", "live", "ended"]


def test_a_worker_that_stops_while_connecting_is_replaced(steady: RtspServer) -> None:
    listener = Listener()
    source = Source(id="cam", url=steady.url("clip.mp4"), live=True, open_timeout=0.5)
    timing = Timing(start=1.0, first_frame=2.0)
    with SourcePool([source], emit=listener, backoff=QUICK, timing=timing):
        wait_until(lambda: worker_pids(os.getpid()))
        (pid,) = worker_pids(os.getpid())
        os.kill(pid, signal.SIGSTOP)
        listener.wait(lambda: "its decode worker gave" in str(listener.last("cam").error))
        listener.wait(lambda: frames_of(listener, 0) >= 5)


def test_a_camera_that_is_not_there_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    sources = resolve_sources([f"rtsp://me:secret@127.0.0.1:{free_port()}/a"])
    (name,) = (source.id for source in sources)
    listener = Listener()
    with SourcePool(sources, emit=listener, backoff=Backoff(first=0.01, longest=0.02)):
        listener.wait(lambda: len(listener.changes) >= 20)
    assert listener.states(name) == ["connecting", "ended"]
    error = listener.changes[1].error
    assert str(error) == f"cannot connect to {sources[0].shown}: Connection refused"
    warnings = [record.message for record in caplog.records]
    assert len(warnings) == 5, "of the 1st, 2nd, 4th, 8th and 16th failure"
    assert warnings[0] == f"{name}: {error}; next attempt in 0.0 s"
    assert "secret" not in caplog.text


def test_a_camera_is_given_up_after_as_many_attempts_as_allowed(steady: RtspServer) -> None:
    refused = f"rtsp://me:secret@127.0.0.1:{free_port()}/a"
    sources = [
        Source(id="three", url=refused, live=True, reconnect_attempts=3),
        Source(id="once", url=refused, live=True, reconnect_attempts=0),
        Source(id="ended", url=steady.url("short.mp4", loop=False), live=True, reconnect_attempts=0),
    ]
    listener = Listener()
    with SourcePool(sources, emit=listener, backoff=QUICK) as pool:
        listener.wait_for_end("three", "once", "ended")
        wait_until(lambda: not pool.running)
    shown = sources[0].shown
    assert listener.error("once") == f"cannot connect to {shown}: Connection refused"
    expected = f"cannot connect to {shown}: Connection refused (given up after 3 more attempts)"
    assert listener.error("three") == expected
    assert len([change for change in listener.changes if change.stream == "three"]) == 1 + 3 + 1
    assert listener.error("ended").startswith(f"lost {sources[2].shown}: ")
    assert listener.states("ended") == ["connecting", "live", "failed"]


def test_a_picture_that_changes_its_size_is_a_loss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = write_clip(tmp_path / "small.h264", frames=20, width=160, height=120, bframes=0)
    big = write_clip(tmp_path / "big.h264", frames=10, bframes=0)
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + big.read_bytes())
    listener = Listener()
    with SourcePool([camera(f"file://{both}")], emit=listener, backoff=QUICK):
        listener.wait(lambda: frames_of(listener, 1) >= 5)
    assert "the picture size changed to 320x240" in caplog.text
    assert {seen.shape for seen in listener.seen["cam"]} == {(120, 160, 3)}


def test_a_camera_that_comes_up_late_is_found(media: Path) -> None:
    server = RtspServer(media)
    listener = Listener()
    with SourcePool([camera(server.url("clip.mp4"))], emit=listener, backoff=QUICK):
        starter = threading.Thread(target=server.start)
        starter.start()
        listener.wait(lambda: frames_of(listener, 0) >= 5)
        starter.join()
    server.kill()
    assert [info.epoch for info in listener.infos] == [0]
    assert listener.last("cam").reconnects == 0


@pytest.mark.parametrize("silent", [False, True])
def test_stopping_a_camera_is_prompt(request: pytest.FixtureRequest, silent: bool) -> None:
    server: RtspServer = request.getfixturevalue("server" if silent else "steady")
    listener = Listener()
    with SourcePool([camera(server.url("clip.mp4"))], emit=listener, timing=Timing(grace=0.5)) as pool:
        listener.wait(lambda: frames_of(listener, 0) >= 5)
        if silent:
            server.freeze()
        began = time.monotonic()
        pool.stop()
        assert time.monotonic() - began < 5
    assert listener.ended["cam"].error is None
    assert worker_pids(os.getpid()) == []
