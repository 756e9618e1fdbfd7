"""A camera that is lost is waited for; the others do not notice."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamseg.outputs import VideoOutput
from streamseg.sources import Backoff, Source
from streamseg.types import FrameResult, StreamState
from tests.support.broker import wait_for
from tests.support.crowd import crowd
from tests.support.media import write_clip
from tests.support.program import read_video
from tests.support.reading import is_running
from tests.support.runs import QUICK, Run, SilentOutput, own_workers, resources
from tests.support.servers import RtspServer, free_port, refusing_server, rtsp_server

LIVE, STALLED, CONNECTING = StreamState.LIVE, StreamState.STALLED, StreamState.CONNECTING
FPS = 25
CONNECT = 4.0
"""Seconds that opening a camera may take here, beside everything else that runs on the machine."""


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "clip.mp4", frames=100, width=160, height=120, bframes=0, gop=10)
    return folder


@pytest.fixture
def server(media: Path) -> Iterator[RtspServer]:
    with rtsp_server(media) as running:
        yield running


def camera(name: str, server: RtspServer, *, read_timeout: float = 5.0) -> Source:
    return Source(id=name, url=server.url("clip.mp4"), live=True, open_timeout=1.0, read_timeout=read_timeout)


def share_kept(results: list[FrameResult]) -> float:
    """Of the frames from the first to the last result, those that have one."""
    return len(results) / (results[-1].frame - results[0].frame + 1)


class StatusOutput(SilentOutput):
    """Keeps what the pipeline reports of each stream, as the status hash in Redis does."""

    def __init__(self) -> None:
        self.fields: dict[str, dict[str, str | float]] = {}

    def report(self, stream: str, **fields: str | float) -> None:
        self.fields.setdefault(stream, {}).update(fields)


@pytest.mark.parametrize("restarts", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_four_cameras_and_what_happens_to_three(media: Path, server: RtspServer, restarts: int) -> None:
    late = RtspServer(media)
    with contextlib.ExitStack() as stack:
        stack.callback(late.kill)
        frozen, restarted = (stack.enter_context(rtsp_server(media)) for _ in range(2))
        sources = [
            camera("healthy", server),
            camera("late", late),
            camera("restarted", restarted),
            camera("frozen", frozen, read_timeout=2.0),
        ]
        with Run(sources) as run:
            run.wait_for_state(LIVE, "healthy", "restarted", "frozen")
            run.wait_for_results("healthy", 30)  # in its first second only the newest frame waits
            before = len(run.results["healthy"])
            assert run.stream("late").state is CONNECTING

            frozen.freeze()
            late.start()
            began = time.monotonic()
            run.wait_for_state(LIVE, "late")
            assert time.monotonic() - began < (QUICK.longest + CONNECT) * crowd()

            for restart in range(restarts):
                restarted.kill()
                run.wait_for_state(CONNECTING, "restarted")
                restarted.start()
                began = time.monotonic()
                run.wait_for_results("restarted", 5, epoch=restart + 1)
                assert time.monotonic() - began < (QUICK.longest + CONNECT) * crowd()

            run.wait(lambda: run.stream("frozen").state in {STALLED, CONNECTING}, "the loss of frozen")
            frozen.thaw()
            run.wait_for_results("frozen", 5, epoch=1)
            run.wait_for_results("healthy", 5)
    reconnects = {name: run.stream(name).reconnects for name in ("healthy", "late", "restarted", "frozen")}
    assert reconnects == {"healthy": 0, "late": 0, "restarted": restarts, "frozen": 1}
    assert {info.epoch for info in run.infos["restarted"]} == set(range(restarts + 1))
    run.check_counts()
    healthy = run.results["healthy"][before:]
    assert share_kept(healthy) >= 1 - 0.01 * crowd(), run.stream("healthy").dropped
    # By the camera's clock, too: no frame was lost before it could be counted.
    sent = round((healthy[-1].pts - healthy[0].pts) * FPS) + 1
    assert healthy[-1].frame - healthy[0].frame + 1 == sent


def test_every_frame_has_a_result_or_is_counted(server: RtspServer, media: Path) -> None:
    with rtsp_server(media) as other, Run([camera("a", server), camera("b", other)]) as run:
        run.wait_for_state(LIVE, "a", "b")
        run.model.base = 0.15  # too slow for 25 fps: frames are superseded
        run.wait_for_results("a", 5)
        other.kill()
        run.wait_for_state(CONNECTING, "b")
        other.start()
        run.wait_for_results("b", 5, epoch=1)
        run.model.base = 2.0  # so slow that the frame ring is full
        run.wait(lambda: run.stream("a").dropped["busy"] or run.stream("a").dropped["superseded"] > 60, "")
        run.model.base = 0.0
        run.wait_for_results("a", 20)
        run.wait_for_results("b", 20)
    assert run.stream("b").reconnects == 1
    assert run.stream("a").dropped["superseded"] > 10
    run.check_counts()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGSTOP"])
def test_a_worker_that_dies_or_stops_costs_its_own_camera_a_moment(
    server: RtspServer, media: Path, name: str
) -> None:
    with rtsp_server(media) as other, Run([camera("a", server, read_timeout=1.5)]) as run:
        run.wait_for_results("a", 5)
        (pid,) = own_workers()
        assert run.pipeline.add(camera("b", other))
        run.wait_for_results("b", 30)  # in its first second only the newest frame waits
        run.results.clear()
        os.kill(pid, getattr(signal, name))
        run.wait_for_results("a", 5, epoch=1)
        assert not is_running(pid)
    assert run.stream("a").reconnects == 1
    assert run.stream("b").reconnects == 0
    assert share_kept(run.results["b"]) >= 1 - 0.01 * crowd(), (
        run.stream("b").dropped,
        len(run.results["b"]),
    )


def test_reconnecting_leaves_nothing_behind(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "short.h264", frames=10, width=64, height=48, bframes=0)
    source = Source(id="cam", url=f"file://{clip}", live=True)
    with Run([source], backoff=Backoff(first=0.02, longest=0.02)) as run:
        run.wait(lambda: run.stream("cam").reconnects >= 5, "reconnects")
        before = resources()
        run.wait(lambda: run.stream("cam").reconnects >= 60, "reconnects")
        after = resources()
    # In the midst of an opening there may be a ring and its descriptors more or less.
    assert all(after[name] <= before[name] + 3 for name in before), (before, after)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("401 Unauthorized", "user or password refused (401 Unauthorized)"),
        ("403 Forbidden", "access refused (403 Forbidden)"),
        ("404 Not Found", "no such stream there (404 Not Found)"),
    ],
)
def test_a_camera_that_refuses_is_told_apart_and_asked_slowly(answer: str, words: str) -> None:
    slow = Backoff(first=0.01, longest=0.02, refused=1.0, jitter=0.0)
    with refusing_server(answer) as refusing, contextlib.ExitStack() as stack:
        url = f"rtsp://me:secret@127.0.0.1:{refusing.port}/cam"
        away = f"rtsp://me:secret@127.0.0.1:{free_port()}/cam"
        sources = [Source(id=name, url=u, live=True) for name, u in (("refused", url), ("away", away))]
        output = StatusOutput()
        run = stack.enter_context(Run(sources, backoff=slow, outputs=[output]))
        wait_for(lambda: words in str(output.fields["refused"].get("error")), what=words)
        began, attempts = time.monotonic(), refusing.attempts
        wait_for(lambda: refusing.attempts == attempts + 1, what="another attempt")
        assert time.monotonic() - began > 0.8
        assert "Connection refused" in str(output.fields["away"]["error"])
        assert run.stream("refused").state is CONNECTING
        assert "secret" not in str(output.fields)


def test_a_camera_may_come_back_with_another_size_codec_and_rate(tmp_path: Path) -> None:
    media, out = tmp_path / "media", tmp_path / "out"
    media.mkdir()
    write_clip(media / "clip.mp4", frames=100, width=160, height=120, bframes=0, gop=10)
    with rtsp_server(media) as server:
        with Run([camera("cam", server)], outputs=[VideoOutput(f"{out}/{{stream}}.mp4")]) as run:
            run.wait_for_results("cam", 10)
            server.kill()
            write_clip(
                media / "clip.mp4",
                encoder="libx265",
                frames=100,
                width=192,
                height=144,
                fps=15,
                bframes=0,
                gop=10,
            )
            server.start()
            run.wait_for_results("cam", 10, epoch=1)
        assert run.pipeline.stats.errors == []
    assert sorted(path.name for path in out.iterdir()) == ["cam.mp4", "cam.part2.mp4"]
    first, second = read_video(out / "cam.mp4"), read_video(out / "cam.part2.mp4")
    assert (first.size, second.size) == ((160, 120), (192, 144))
    dropped = run.stream("cam").dropped["by VideoOutput"]  # on a machine with other things to do
    assert len(first.seconds) + len(second.seconds) == len(run.results["cam"]) - dropped
    assert run.infos["cam"][1].fps == 15.0
