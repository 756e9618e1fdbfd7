"""A real RTSP camera through the whole program, read by others from a real Redis.

The first test has the bundled weights, the others a stand-in that starts in a moment.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.support.broker import RunningBroker, wait_for
from tests.support.media import write_clip
from tests.support.program import STREET, check_result, read_results, read_video, running_program
from tests.support.runs import started
from tests.support.servers import RtspServer, free_port, rtsp_server


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[RtspServer]:
    folder = tmp_path / "media"
    folder.mkdir()
    shutil.copy(STREET, folder / "street.mp4")
    with rtsp_server(folder) as server:
        yield server


def entries(broker: RunningBroker, stream: str) -> int:
    with broker.client() as client:
        return int(client.xlen(f"streamseg:{{{stream}}}:results"))


@pytest.mark.timeout(200)
def test_a_camera_is_read_by_another_process_until_interrupted(
    camera: RtspServer, broker: RunningBroker, tmp_path: Path
) -> None:
    url, video = camera.url("street.mp4"), tmp_path / "cam.mp4"
    with running_program(url, "-o", video, "--redis", broker.url, "--redis-overlays") as program:
        stream = "127.0.0.1-street.mp4"
        wait_for(lambda: entries(broker, stream) >= 3, seconds=60, what="results in Redis")
        subscriber = [sys.executable, "-m", "streamseg", "subscribe", broker.url, stream, "--from", "start"]
        with subprocess.Popen(subscriber, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None
            lines = [reader.stdout.readline() for _ in range(12)]
            reader.terminate()
        program.send_signal(signal.SIGINT)
        _, stderr = program.communicate(timeout=30)
    assert program.returncode == 130, stderr
    results = [msgspec.json.decode(line) for line in lines]
    for result in results:
        check_result(result)
    frames = [r["frame"] for r in results]
    assert frames == sorted(set(frames))
    # Newest frame wins: no result is older than a few inferences, and the age does not grow.
    assert max(r["latency_ms"] for r in results[2:]) < 5000
    assert any(r["instances"] for r in results)
    seconds = read_video(video).seconds
    assert len(seconds) >= 3
    assert seconds == sorted(set(seconds))


def test_an_unreachable_camera_is_waited_for_and_everybody_can_see_why(
    camera: RtspServer, broker: RunningBroker
) -> None:
    port = free_port()
    url = f"rtsp://viewer:pa55word@127.0.0.1:{port}/street.mp4"
    with started(url, "--redis", broker.url) as program:
        key = "streamseg:{127.0.0.1-street.mp4}:status"
        with broker.client(decode_responses=True) as client:
            wait_for(lambda: "refused" in (client.hget(key, "error") or ""), seconds=60, what="a status")
            status = client.hgetall(key)
            assert status["state"] == "connecting"
            assert status["source"] == f"rtsp://viewer:***@127.0.0.1:{port}/street.mp4"
            assert "cannot connect to rtsp://viewer:***@127.0.0.1" in status["error"]
            camera.kill()
            camera.port = port
            camera.start()
            wait_for(lambda: client.hget(key, "state") == "live", seconds=60, what="the camera")
            camera.kill()
            wait_for(lambda: client.hget(key, "state") == "connecting", seconds=60, what="its loss")
            camera.start()
            wait_for(lambda: client.hget(key, "reconnects") == "1", seconds=60, what="its return")
            camera.freeze()
            wait_for(lambda: client.hget(key, "state") == "stalled", seconds=60, what="its silence")
            program.send_signal(signal.SIGTERM)
            _, stderr = program.communicate(timeout=30)
            status = client.hgetall(key)
    assert program.returncode == 143
    assert status["state"] == "ended"
    assert "cannot connect" in stderr
    assert "connected" in stderr
    assert "live again" in stderr
    assert "pa55word" not in stderr


@pytest.mark.timeout(200)
def test_two_files_and_a_camera_at_once(camera: RtspServer, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "counted.mp4", frames=20)
    out = tmp_path / "out"
    sources = [STREET, clip, camera.url("street.mp4")]
    names = ["street", "counted", "127.0.0.1-street.mp4"]
    options = ["-o", f"{out}/{{stream}}.mp4", "--results", f"{out}/{{stream}}.ndjson", "--end", "1"]
    with started(*sources, *options) as program:
        finished = [out / f"{name}.ndjson" for name in names[:2]]
        wait_for(lambda: all(path.exists() for path in finished), seconds=90, what="the files' results")
        partial = out / f"{names[2]}.ndjson.partial"
        wait_for(lambda: partial.exists() and partial.stat().st_size, seconds=60, what="the camera's results")
        program.send_signal(signal.SIGTERM)
        _, stderr = program.communicate(timeout=30)
    assert program.returncode == 143, stderr
    for name, size, count in zip(names, [(768, 576), (320, 240), (768, 576)], [10, 20, None], strict=True):
        results, video = read_results(out / f"{name}.ndjson"), read_video(out / f"{name}.mp4")
        assert video.size == size
        assert {(r["stream"], r["width"], r["height"]) for r in results} == {(name, *size)}
        assert len(results) == len(video.seconds) == (count or len(results)) > 0


def test_a_second_signal_aborts_at_once(tmp_path: Path) -> None:
    results = tmp_path / "a.ndjson"
    partial = results.with_name("a.ndjson.partial")
    # So many frames are under way that finishing them would take much longer than the second signal.
    many = ["--set", "batching.max_batch=60", "--set", "batching.max_wait_ms=10000"]
    with started(STREET, "--results", results, *many, seconds=0.5) as program:
        wait_for(partial.exists, seconds=60, what="the opening of the file")
        program.send_signal(signal.SIGINT)
        assert program.stderr is not None
        while "once more to abort" not in program.stderr.readline():
            assert program.poll() is None, "it ended before the second signal"
        program.send_signal(signal.SIGINT)
        program.wait(timeout=20)
    assert program.returncode == 130
    assert not results.exists(), "nothing is finished after an abort"


def test_ctrl_c_finishes_files_even_if_nobody_reads_the_messages(camera: RtspServer, tmp_path: Path) -> None:
    partial = tmp_path / "a.ndjson.partial"
    with started(camera.url("street.mp4"), "--results", tmp_path / "a.ndjson") as program:
        wait_for(lambda: partial.exists() and partial.stat().st_size, seconds=60, what="results")
        assert program.stderr is not None
        program.stderr.close()
        program.send_signal(signal.SIGINT)
        assert program.wait(timeout=30) == 130
    assert len(read_results(tmp_path / "a.ndjson")) > 0
