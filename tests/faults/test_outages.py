"""Redis dies and comes back while the program works: nothing of a file is lost, and little of a camera."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from streamseg.client import Subscription, subscribe
from streamseg.types import FrameResult
from tests.broker import RunningBroker, running_broker, wait_for
from tests.faults.helpers import started, without_clock
from tests.media import write_clip
from tests.program import read_results
from tests.servers import rtsp_server


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with running_broker(tmp_path / "broker") as running:
        yield running


class Listening(threading.Thread):
    """Another process' loop over results, which knows nothing of outages."""

    def __init__(self, subscription: Subscription, last: int | None) -> None:
        super().__init__()
        self.seen: list[FrameResult] = []
        self._subscription = subscription
        self._last = last

    def run(self) -> None:
        for result in self._subscription:
            self.seen.append(result)
            if result.frame == self._last:
                break

    @property
    def frames(self) -> list[int]:
        return [result.frame for result in self.seen]


@contextmanager
def listening(
    broker: RunningBroker, stream: str, *, patience: float, last: int | None = None
) -> Iterator[Listening]:
    """Listens until the last frame, or until nothing has come for some seconds."""
    with subscribe(broker.url, [stream], start="start", timeout=patience) as subscription:
        thread = Listening(subscription, last)
        thread.start()
        yield thread
        thread.join()


def published(broker: RunningBroker, stream: str) -> list[FrameResult]:
    with broker.client() as client:
        entries = client.xrange(f"streamseg:{{{stream}}}:results")
    return [msgspec.json.decode(fields[b"result"], type=FrameResult) for _, fields in entries]


@pytest.mark.parametrize("outage", [2.0, pytest.param(60.0, marks=[pytest.mark.soak])])
@pytest.mark.timeout(300)
def test_every_result_of_a_file_arrives_once(broker: RunningBroker, tmp_path: Path, outage: float) -> None:
    """The broker dies twice: in the middle, and when all frames have been decoded."""
    frames, results = 400, tmp_path / "a.ndjson"
    clip = write_clip(tmp_path / "a.mp4", frames=frames, width=96, height=64)
    with (
        listening(broker, "a", patience=outage + 60, last=frames - 1) as reader,
        started(clip, "--results", results, "--redis", broker.url, seconds=0.005) as program,
    ):
        for goal in (100, frames - 15):
            wait_for(lambda goal=goal: len(reader.seen) >= goal, seconds=90, what=f"{goal} results")
            broker.kill()
            time.sleep(outage)
            broker.start()
        _, stderr = program.communicate(timeout=60)
    assert program.returncode == 0, stderr
    assert "cannot be reached" in stderr
    assert reader.frames == [result.frame for result in published(broker, "a")] == list(range(frames))
    instances = msgspec.json.decode(msgspec.json.encode([result.instances for result in reader.seen]))
    assert instances == [result["instances"] for result in without_clock(results)]


@pytest.mark.timeout(300)
def test_a_camera_goes_on_and_its_gap_is_counted(broker: RunningBroker, tmp_path: Path) -> None:
    folder, results = tmp_path / "media", tmp_path / "cam.ndjson"
    folder.mkdir()
    write_clip(folder / "cam.mp4", frames=100, width=96, height=64)
    shutil.copy(folder / "cam.mp4", folder / "cam2.mp4")
    stream = "127.0.0.1-cam.mp4"
    with (
        rtsp_server(folder) as server,
        listening(broker, stream, patience=8) as reader,
        started(server.url("cam.mp4"), "--results", results, "--redis", broker.url) as program,
    ):
        wait_for(lambda: len(reader.seen) >= 30, seconds=90, what="results")
        broker.kill()
        before = reader.seen[-1].frame
        time.sleep(2)
        broker.start()
        wait_for(lambda: reader.seen[-1].frame >= before + 100, seconds=60, what="results after the outage")
        program.send_signal(signal.SIGTERM)
        _, stderr = program.communicate(timeout=30)
        assert program.returncode == 143, stderr
        with broker.client(decode_responses=True) as client:
            status = client.hgetall(f"streamseg:{{{stream}}}:status")
    written = [r["frame"] for r in read_results(results)]
    assert reader.frames == written, "two seconds are far less than the backlog holds"
    missing = written[-1] + 1 - len(written)
    assert int(status["dropped"]) >= missing, "frames without a result are counted"
    assert int(status["frames"]) == len(written)
    assert status["state"] == "ended"
