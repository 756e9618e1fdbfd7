"""Redis dies and comes back while the program works: nothing of a file is lost, and little of a camera."""

from __future__ import annotations

import re
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
from tests.support.broker import RunningBroker, wait_for
from tests.support.media import write_clip
from tests.support.program import read_results
from tests.support.runs import published_frames, started, without_clock
from tests.support.servers import rtsp_server

BACKLOG = 1000
"""Results of a camera that are kept for a broker that is away."""


class Listening(threading.Thread):
    """Another process' loop over results, which knows nothing of outages."""

    def __init__(self, subscription: Subscription) -> None:
        super().__init__()
        self.seen: list[FrameResult] = []
        self.no_more = threading.Event()
        """Nothing more is published."""
        self._subscription = subscription

    def run(self) -> None:
        went_on = True
        while went_on or not self.no_more.is_set():
            before = len(self.seen)
            self.seen.extend(self._subscription)  # until nothing has come for a moment
            went_on = len(self.seen) > before

    @property
    def frames(self) -> list[int]:
        return [result.frame for result in self.seen]


@contextmanager
def listening(broker: RunningBroker, stream: str) -> Iterator[Listening]:
    """Listens until the end of the context and to what was published until then."""
    with subscribe(broker.url, [stream], start="start", timeout=0.5) as subscription:
        thread = Listening(subscription)
        thread.start()
        try:
            yield thread
        finally:
            thread.no_more.set()
            thread.join()


@pytest.mark.parametrize("outage", [2.0, pytest.param(60.0, marks=[pytest.mark.soak])])
@pytest.mark.timeout(300)
def test_every_result_of_a_file_arrives_once(broker: RunningBroker, tmp_path: Path, outage: float) -> None:
    """The broker dies twice: in the middle, and when all frames have been decoded."""
    frames, results = 400, tmp_path / "a.ndjson"
    clip = write_clip(tmp_path / "a.mp4", frames=frames, width=96, height=64)
    with (
        listening(broker, "a") as reader,
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
    assert reader.frames == published_frames(broker, "a") == list(range(frames))
    instances = msgspec.json.decode(msgspec.json.encode([result.instances for result in reader.seen]))
    assert instances == [result["instances"] for result in without_clock(results)]


@pytest.mark.parametrize("outage", [2.0, pytest.param(60.0, marks=[pytest.mark.soak])])
@pytest.mark.timeout(300)
def test_a_camera_goes_on_and_its_gap_is_counted(
    broker: RunningBroker, tmp_path: Path, outage: float
) -> None:
    """The backlog holds 40 s: after a longer outage the oldest results are missing, and counted."""
    folder, results, stream = tmp_path / "media", tmp_path / "cam.ndjson", "127.0.0.1-cam.mp4"
    folder.mkdir()
    write_clip(folder / "cam.mp4", frames=100, width=96, height=64)
    with (
        rtsp_server(folder) as server,
        listening(broker, stream) as reader,
        started(server.url("cam.mp4"), "--results", results, "--redis", broker.url) as program,
    ):
        wait_for(lambda: len(reader.seen) >= 30, seconds=90, what="results")
        broker.kill()
        goal = reader.seen[-1].frame + 25 * outage + 25
        time.sleep(outage)
        broker.start()
        wait_for(lambda: reader.seen[-1].frame >= goal, seconds=90, what="results after the outage")
        program.send_signal(signal.SIGTERM)
        _, stderr = program.communicate(timeout=30)
        assert program.returncode == 143, stderr
        with broker.client(decode_responses=True) as client:
            status = client.hgetall(f"streamseg:{{{stream}}}:status")
    written = [r["frame"] for r in read_results(results)]
    assert reader.frames == sorted(set(reader.frames))
    kept = published_frames(broker, stream)  # the broker trims the oldest
    assert kept == reader.frames[-len(kept) :]
    assert set(reader.frames) <= set(written)
    counted = re.search(r"(\d+) by RedisOutput", stderr)
    gap = len(written) - len(reader.frames)
    assert gap == (int(counted[1]) if counted else 0)
    assert max(0, 25 * outage - BACKLOG) <= gap <= max(0, 25 * (outage + 10) - BACKLOG)
    missing = written[-1] + 1 - len(written)
    assert int(status["dropped"]) == missing + gap, "frames without a result are counted"
    assert int(status["frames"]) == len(reader.frames)
    assert status["state"] == "ended"
