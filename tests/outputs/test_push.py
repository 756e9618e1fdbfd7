"""The overlay pushed to a media server, which is killed, refuses, stops reading, or is not there."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from streamseg.config import OverlayOptions
from streamseg.errors import StreamsegError, UsageError
from streamseg.outputs import OutputRunner, PushOutput, patience, rtsp
from streamseg.outputs.backlog import StreamBacklog
from streamseg.outputs.pace import Pace
from streamseg.types import Frame, StreamEnd
from tests.support.broker import wait_for
from tests.support.clips import COLOURS, frame, info, instances, result_of
from tests.support.media import write_clip
from tests.support.media_server import MediaServer, media_server
from tests.support.runs import run_program, run_watched
from tests.support.servers import free_port

ENDED = StreamEnd.ENDED
BOX = (10, 10, 50, 40)


@pytest.fixture
def server() -> Iterator[MediaServer]:
    with media_server() as running:
        yield running


class Run:
    """One output behind its backlogs, as in a run."""

    def __init__(self, url: str, **options: object) -> None:
        self.output = PushOutput(url, **options)  # type: ignore[arg-type]
        self.errors: list[StreamsegError] = []
        self.runner = OutputRunner(self.output, on_error=self.errors.append)

    def put(self, backlog: StreamBacklog, frame_: Frame, *, box: tuple[int, int, int, int] = BOX) -> None:
        found = instances((frame_.width, frame_.height), [box])
        backlog.put(result_of(frame_, found), frame_, found)

    def camera(self, backlog: StreamBacklog, pushed: object, *, size: tuple[int, int] = (64, 48)) -> None:
        """Frames as a camera gives them, until something holds."""
        number = 0

        def holds() -> bool:
            nonlocal number
            self.put(backlog, frame(number, stream=backlog.stream, size=size))
            number += 1
            time.sleep(0.02)
            return bool(pushed())  # type: ignore[operator]

        wait_for(holds, seconds=40)


@contextmanager
def run(url: str, **options: object) -> Iterator[Run]:
    running = Run(url, **options)
    running.runner.start()
    try:
        yield running
    finally:
        running.runner.abort()


def pictures(server: MediaServer, path: str, connection: int = -1) -> list[np.ndarray]:
    return server.of(path)[connection].pictures if server.of(path) else []


def test_the_overlay_arrives_with_the_clock_of_the_stream_and_a_key_frame_every_two_seconds(
    server: MediaServer,
) -> None:
    with run(server.url("live/{stream}"), overlay=OverlayOptions(labels=False, ids=False)) as running:
        cam = running.runner.open(info(live=True))
        for number in range(120):
            running.put(cam, frame(number, ticks=12800 * 500 + 512 * number))
            wait_for(lambda number=number: len(pictures(server, "live/cam")) > number)
        cam.close(ENDED)
        running.runner.finish(20)
        (pushed,) = server.of("live/cam")
        wait_for(lambda: pushed.ended)
    assert pushed.times == pytest.approx([number / 25 for number in range(120)], abs=1e-4)
    assert pushed.keys == pytest.approx([0, 2, 4])
    assert pushed.reports > 0
    for sdp in ("H264/90000", "packetization-mode=1", "sprop-parameter-sets=Z", "profile-level-id=64"):
        assert sdp in pushed.description
    bar = np.arange(6) * 64 // 6 + 5
    found = pushed.pictures[60].astype(int)
    assert np.abs(found[3, bar] - np.array(COLOURS)).mean() < 12, "what the camera saw"
    assert np.abs(found[25, bar[2:4]] - np.array(COLOURS)[2:4]).mean() > 25, "what was painted over it"
    assert (running.errors, cam.dropped, running.output.trouble) == ([], 0, None)


def test_each_stream_has_a_path_of_its_own(server: MediaServer) -> None:
    with run(server.url("{stream}?token=1")) as running:
        for name in ("a", "b", "Tür"):
            running.camera(
                running.runner.open(info(name, live=True)),
                lambda: server.pushed[-1].pictures if server.pushed else None,
            )
            server.pushed[-1].pictures.clear()
    assert [one.path for one in server.pushed] == ["a?token=1", "b?token=1", "T%C3%BCr?token=1"]


def test_a_server_that_is_killed_gets_pictures_again_when_it_is_back(
    server: MediaServer, caplog: pytest.LogCaptureFixture
) -> None:
    with run(server.url("{stream}")) as running:
        cam = running.runner.open(info(live=True))
        running.camera(cam, lambda: len(pictures(server, "cam")) > 5)
        server.kill()
        running.camera(cam, lambda: running.runner.health().trouble and cam.dropped > 75)
        assert "cannot be reached" in str(running.runner.health().trouble)
        server.start()
        running.camera(cam, lambda: len(server.of("cam")) > 1 and len(pictures(server, "cam")) > 5)
        assert running.runner.health().up
        again = server.of("cam")[-1]
        assert again.times[0] == 0
        assert max(np.diff(again.times)) < 2.5, "nothing from before the loss, which took 3 s of the clock"
    assert running.errors == []
    assert f"media server {server.url('cam')} is back" in caplog.text


def test_a_server_that_is_absent_at_the_start_is_waited_for(server: MediaServer) -> None:
    server.kill()
    with run(server.url("{stream}")) as running:
        cam = running.runner.open(info(live=True))
        running.camera(cam, lambda: "Connection refused" in str(running.runner.health().trouble))
        server.start()
        running.camera(cam, lambda: pictures(server, "cam"))
    assert running.errors == []


def test_a_server_that_reads_nothing_costs_pictures_and_no_time(
    server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtsp, "SEND_BUFFER", 1 << 12)
    noise = np.random.default_rng(0)
    longest = 0.0
    with run(server.url("{stream}")) as running:
        cam = running.runner.open(info(live=True, width=640, height=480))

        def put_noise(number: int) -> None:
            nonlocal longest
            pixels = noise.integers(0, 255, (480, 640, 3), np.uint8)
            began = time.monotonic()
            running.put(cam, frame(number, size=(640, 480), pixels=pixels))
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.02)

        running.camera(cam, lambda: pictures(server, "cam"), size=(640, 480))
        server.reading.clear()
        number = 1000
        while cam.dropped < 60:
            put_noise(number := number + 1)
            assert len(cam.writer._connection.session._unsent) < 640 * 480 * 3, "a picture at most"  # type: ignore[union-attr]
        assert running.runner.health().dropped == {"cam": cam.dropped}
        before = len(pictures(server, "cam"))
        server.reading.set()
        wait_for(
            lambda: (
                put_noise(len(pictures(server, "cam")) + 2000),
                len(pictures(server, "cam")) > before + 20,
            )[1],
            seconds=40,
        )
        assert len(server.of("cam")) == 1, "its connection was kept"
    assert longest < 1, "the run never waits"
    assert running.errors == []


def test_a_server_that_takes_nothing_for_long_is_connected_to_again(
    server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtsp, "SEND_BUFFER", 1 << 12)
    monkeypatch.setattr(rtsp, "STUCK_SECONDS", 0.5)
    with run(server.url("{stream}")) as running:
        cam = running.runner.open(info(live=True, width=640, height=480))
        server.reading.clear()
        pixels = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
        wait_for(
            lambda: (running.put(cam, frame(0, size=(640, 480), pixels=pixels)), len(server.of("cam")) > 1)[
                1
            ],
            seconds=40,
        )


def test_a_silent_server_stops_no_thread_of_ours(
    server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtsp, "ANSWER_SECONDS", 2.0)
    server.silent = True
    longest, done = 0.0, threading.Event()

    def tick() -> None:
        nonlocal longest
        while not done.is_set():
            began = time.monotonic()
            time.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    ticking = threading.Thread(target=tick)
    with run(server.url("{stream}")) as running:
        cam = running.runner.open(info(live=True))
        ticking.start()
        running.camera(cam, lambda: "no answer in time" in str(running.runner.health().trouble))
        done.set()
        ticking.join()
        assert longest < 1.5
        server.silent = False
        running.camera(cam, lambda: pictures(server, "cam"))


def test_a_server_that_always_hangs_up_is_asked_less_and_less_often(
    server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE", 0.05)
    server.closing = True
    with run(server.url("{stream}")) as running:
        cam = running.runner.open(info(live=True))
        running.camera(cam, lambda: len(server.of("cam")) > 3)
        began = time.monotonic()
        running.camera(cam, lambda: len(server.of("cam")) > 4)
        assert time.monotonic() - began > 0.2


def test_a_recording_waits_for_its_server_goes_at_its_own_pace_and_loses_nothing(server: MediaServer) -> None:
    server.kill()
    began = time.monotonic()
    with run(server.url("{stream}")) as running:
        clip = running.runner.open(info("clip"))
        for number in range(40):
            running.put(clip, frame(number, stream="clip"))
        clip.close(ENDED)
        wait_for(lambda: running.runner.health().trouble)
        server.start()
        running.runner.finish(30)
        assert time.monotonic() - began > 1.5, "40 pictures last 1.6 s"
        (pushed,) = server.of("clip")
        wait_for(lambda: pushed.ended)
    assert pushed.times == pytest.approx([number / 25 for number in range(40)], abs=1e-4)
    assert (running.errors, clip.dropped, clip.lost) == ([], 0, 0)


def test_the_end_of_a_run_does_not_wait_long_for_a_server_that_is_away(server: MediaServer) -> None:
    server.kill()
    with run(server.url("{stream}", user="me:secret")) as running:
        clip = running.runner.open(info("clip"))
        running.put(clip, frame(0, stream="clip"))
        wait_for(lambda: running.runner.health().trouble)
        running.runner.hurry(0.5)
        running.runner.finish(30)
    (error,) = running.errors
    assert "Connection refused" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(("scheme", "algorithm"), [("Digest", ""), ("Digest", "SHA-256"), ("Basic", "")])
def test_user_and_password(scheme: str, algorithm: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with media_server(users={"me": "se/cr@t"}, scheme=scheme, algorithm=algorithm) as server:
        with run(server.url("{stream}", user="me:se%2Fcr%40t")) as running:
            running.camera(running.runner.open(info(live=True)), lambda: pictures(server, "cam"))
        for user in ("me:wrong", "you:wrong"):
            with run(server.url("{stream}", user=user)) as running:
                cam = running.runner.open(info(live=True))
                running.camera(cam, lambda running=running: running.runner.health().trouble)
                assert "user or password refused (401" in str(running.runner.health().trouble)
        with run(server.url("{stream}")) as running:
            cam = running.runner.open(info(live=True))
            running.camera(cam, lambda: running.runner.health().trouble)
            assert "it wants user and password (401" in str(running.runner.health().trouble)
    assert "me:se" not in caplog.text
    assert "wrong" not in caplog.text
    assert not [line for line in server.requests if "@" in line]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("404 Not Found", "no such path there (404 Not Found)"),
        ("400 Bad Request", "it refuses ANNOUNCE (400 Bad Request)"),
    ],
)
def test_a_path_that_is_refused_keeps_no_other_stream_from_its_own(
    server: MediaServer, status: str, said: str
) -> None:
    server.refuse["a"] = status
    with run(server.url("{stream}")) as running:
        a = running.runner.open(info("a", live=True))
        running.camera(a, lambda: running.runner.health().trouble)
        assert said in str(running.runner.health().trouble)
        running.camera(running.runner.open(info("b", live=True)), lambda: len(pictures(server, "b")) > 3)
        a.close(ENDED)


def test_pictures_of_another_size_are_announced_anew(server: MediaServer) -> None:
    with run(server.url("{stream}")) as running:
        cam = running.runner.open(info(live=True))
        running.camera(cam, lambda: len(pictures(server, "cam")) > 3)
        cam.begin_epoch(info(live=True, epoch=1, width=96))
        running.camera(cam, lambda: len(server.of("cam")) > 1 and pictures(server, "cam"), size=(96, 48))
        assert server.of("cam")[0].ended
        assert pictures(server, "cam")[0].shape == (48, 96, 3)


def test_the_clock_goes_on_when_the_camera_begins_anew(server: MediaServer) -> None:
    with run(server.url("{stream}")) as running:
        cam = running.runner.open(info(live=True))
        for number, epoch, at in [(0, 0, 10.0), (1, 0, 10.04), (0, 1, 13.0), (1, 1, 13.04)]:
            before = len(pictures(server, "cam"))
            running.put(cam, frame(number, epoch=epoch, at=at))
            wait_for(lambda before=before: len(pictures(server, "cam")) > before)
        (pushed,) = server.of("cam")
    assert pushed.times == pytest.approx([0, 0.04, 3.0, 3.04], abs=1e-3)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("rtmp://host/{stream}", "write rtsp://"),
        ("rtsp:///{stream}", "not a valid URL"),
        ("rtsp://me:a/b#c@host/{stream}", "not a valid URL"),
        ("rtsp://host:port/{stream}", "not a valid URL"),
        ("rtsp://ho st/{stream}", "not a valid URL"),
    ],
)
def test_a_url_that_is_none_is_refused_in_one_line(url: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        PushOutput(url)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "a/b" not in str(caught.value), "no password"


def test_several_streams_need_several_places() -> None:
    with pytest.raises(UsageError, match=r"several streams need a URL with \{stream\} in it"):
        PushOutput("rtsp://host/a").check(["a", "b"])
    PushOutput("rtsp://host/a").check(["a"])
    PushOutput("rtsp://host/{stream}").check(["a", "b"])


def test_hosts_that_are_not_there_and_servers_that_speak_no_rtsp_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def speak_http() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=speak_http)
        thread.start()
        with pytest.raises(rtsp.RtspError, match="does not speak RTSP"):
            rtsp.RecordingSession(rtsp.parse_rtsp(f"rtsp://127.0.0.1:{port}/a"), "v=0\r\n")
        thread.join()
    with pytest.raises(rtsp.RtspError, match="the host is not found"):
        rtsp.RecordingSession(rtsp.parse_rtsp("rtsp://no-such-host.invalid/a"), "v=0\r\n")


FFMPEG_SERVER = """
import sys, av
with av.open(sys.argv[1], options={"rtsp_flags": "listen", "listen_timeout": "60"}) as container:
    for number, picture in enumerate(container.decode(video=0)):
        if number == 20:
            print(picture.width, picture.height)
            break
"""


def test_ffmpeg_s_server_takes_it_too() -> None:
    url = f"rtsp://127.0.0.1:{free_port()}/live"
    with (
        subprocess.Popen(
            [sys.executable, "-c", FFMPEG_SERVER, url], stdout=subprocess.PIPE, text=True
        ) as ffmpeg,
        run(url) as running,
    ):
        try:
            cam = running.runner.open(info(live=True))
            running.camera(cam, lambda: ffmpeg.poll() is not None)
            assert ffmpeg.stdout is not None
            assert ffmpeg.stdout.read().split() == ["64", "48"]
        finally:
            ffmpeg.kill()


def test_a_pace_is_the_clock_s_and_goes_on_from_where_it_is_after_a_delay() -> None:
    now = 100.0
    pace = Pace(lambda: now)
    waits = []
    for seconds, takes in [
        (7.0, 0.0),
        (7.1, 0.02),
        (7.2, 0.5),
        (7.3, 0.0),
        (7.4, 3.0),
        (7.5, 0.0),
        (99.0, 0.0),
        (99.1, 0.0),
    ]:
        now += takes
        waits.append(round(pace.seconds_until(seconds), 3))
        now += waits[-1]
    # A short delay is made up for, a long one is not; a jump is no wait of a minute and a half.
    assert waits == [0.0, 0.08, 0.0, 0.0, 0.0, 0.1, 4.0, 0.1]


def test_descriptions_do_without_parameter_sets() -> None:
    from streamseg.outputs.rtp import describe

    assert "a=fmtp:96 packetization-mode=1\r\n" in describe(b"")


def test_from_the_command_line_and_from_a_configuration(server: MediaServer, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=10)
    done = run_program(clip, "-o", server.url("{stream}", user="me:secret"))
    assert done.returncode == 0, done.stderr
    assert "secret" not in done.stderr
    results = run_watched(clip, outputs=[{"type": "push", "url": server.url("yaml/{stream}")}])
    wait_for(lambda: len(server.pushed) == 2 and all(one.ended for one in server.pushed))
    assert [one.path for one in server.pushed] == ["clip", "yaml/cam"]
    assert [len(one.pictures) for one in server.pushed] == [10, len(results)]
