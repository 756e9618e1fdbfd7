"""Cameras on several engines: one is killed or stopped, and the others go on."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from streamseg.scale.handle import QUIET_SECONDS
from tests.support.broker import RunningBroker, wait_for
from tests.support.crowd import crowd
from tests.support.engine_pool import seen
from tests.support.engines import engine_pids, engines
from tests.support.media import write_clip
from tests.support.program import read_results
from tests.support.servers import free_port, rtsp_server
from tests.support.story import shown
from tests.support.web import get

PATIENCE = 100.0
"""Seconds; much more than anything takes."""
pytestmark = pytest.mark.timeout(300)


class Cameras:
    """A configuration with cameras, and the program that runs it on two engines."""

    def __init__(self, folder: Path, names: str, url: str, redis: str) -> None:
        self.out, self.path = folder / "out", folder / "run.yaml"
        self.url, self.redis = url, redis
        self.page, self.metrics = (f"http://127.0.0.1:{free_port()}/" for _ in "ab")
        self.write(names)

    def write(self, names: str) -> None:
        servers = zip(("view", "metrics"), (self.page, self.metrics), strict=True)
        content = {
            "streams": [{"id": name, "url": self.url, "stalled_after": 60} for name in names],
            "outputs": [
                {"type": "ndjson", "path": f"{self.out}/{{stream}}.ndjson"},
                {"type": "video", "path": f"{self.out}/{{stream}}.mp4"},
                {"type": "redis", "url": self.redis, "maxlen": 100_000},
            ],
        } | {name: {"enabled": True, "port": int(url.rpartition(":")[2][:-1])} for name, url in servers}
        new = self.path.with_suffix(".new")
        new.write_text(yaml.safe_dump(content))
        new.replace(self.path)

    def results(self, name: str) -> list[dict[str, object]]:
        """What is written of a camera up to now: whole lines."""
        paths = (self.out / f"{name}.ndjson.partial", self.out / f"{name}.ndjson")
        text = next((path.read_text() for path in paths if path.exists()), "")
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def epochs(self, name: str) -> list[int]:
        return sorted({int(str(result["epoch"])) for result in self.results(name)})

    def sample(self, name: str, **labels: str) -> float:
        from prometheus_client.parser import text_string_to_metric_families

        status, text = get(self.metrics + "metrics")
        assert status == 200
        families = text_string_to_metric_families(text.decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
def cameras(broker: RunningBroker, tmp_path: Path) -> Iterator[Cameras]:
    """Four cameras of one real server, to be read."""
    media = tmp_path / "media"
    media.mkdir()
    write_clip(media / "cam.mp4", frames=100, width=96, height=64, bframes=0, gop=10)
    with rtsp_server(media) as server:
        yield Cameras(tmp_path, "abcd", server.url("cam.mp4"), broker.url)


def test_cameras_live_on_when_their_engine_dies(broker: RunningBroker, cameras: Cameras) -> None:
    with engines("-c", cameras.path, seconds=0.005) as program:
        wait_for(lambda: all(len(cameras.results(name)) > 20 for name in "abcd"), seconds=PATIENCE)
        assert get(cameras.metrics + "readyz") == get(cameras.metrics + "healthz") == (200, b"ok\n")
        before = {name: cameras.sample("streamseg_frames_total", stream=name) for name in "abcd"}
        count = cameras.sample("streamseg_engine_streams", engine="0")
        assert 1 <= count <= 3, "both have some"
        os.kill(engine_pids(program.pid)[0], signal.SIGKILL)
        cameras.write("bcde")  # which is heard of while the engine is away
        wait_for(lambda: len(cameras.results("e")) > 5, seconds=PATIENCE, what="a camera that was added")
        wait_for(lambda: not cameras.sample("streamseg_stream_up", stream="a"), seconds=PATIENCE)
        for name in "bcd":
            frames = before[name] + 20
            wait_for(
                lambda n=name, f=frames: cameras.sample("streamseg_frames_total", stream=n) > f,
                seconds=PATIENCE,
            )
        wait_for(lambda: cameras.sample("streamseg_engine_up") == 2, seconds=PATIENCE, what="its return")
        wait_for(lambda: cameras.sample("streamseg_stream_up") == 4, seconds=PATIENCE)
        assert cameras.sample("streamseg_engine_deaths_total", engine="0") == 1
        check_page(cameras, "bcde")
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=PATIENCE)
    assert program.returncode == 143, said
    assert "added e; removed a" in said
    found = re.search(r"it starts again in 3 s; it had the streams ([a-d, ]+)\n", said)
    assert found is not None, said
    lost = found[1].split(", ")
    assert len(lost) == count
    check_files(cameras, lost)
    check_subscribers_view(cameras, broker, lost, said)


def away(cameras: Cameras, name: str) -> float:
    """Seconds between the last picture of the first epoch and the first one of the second."""
    first, second = ([r for r in cameras.results(name) if r["epoch"] == epoch] for epoch in (0, 1))
    return float(str(second[0]["time"])) - float(str(first[-1]["time"]))


def check_page(cameras: Cameras, names: str) -> None:
    """The page shows these cameras as live."""

    def live() -> set[str]:
        return {stream["id"] for stream in shown(cameras.page)["streams"] if stream["state"] == "live"}

    wait_for(lambda: live() == set(names), seconds=PATIENCE)


def check_files(cameras: Cameras, lost: list[str]) -> None:
    """What all owners of a camera wrote is there: results in one file, pictures in one part each."""
    for name in "bcde":
        results = read_results(cameras.out / f"{name}.ndjson")
        numbers = [(result["epoch"], result["frame"]) for result in results]
        assert numbers == sorted(set(numbers))
        if name in lost:
            assert (cameras.out / f"{name}.mp4.partial").exists()
            assert (cameras.out / f"{name}.part2.mp4").exists()
    assert (cameras.out / "a.ndjson").exists() or "a" in lost


def check_subscribers_view(cameras: Cameras, broker: RunningBroker, lost: list[str], said: str) -> None:
    """Of other engines' cameras nothing is lost; the lost ones are soon back."""
    for name in "bcde":
        published = [(result.epoch, result.frame) for result in seen(broker, name)]
        results = [(result["epoch"], result["frame"]) for result in cameras.results(name)]
        if name in lost:
            assert away(cameras, name) <= 5.0 * crowd()
            continue
        assert published == results
        ends = {epoch: frame for epoch, frame in results}
        missing = sum(frame + 1 for frame in ends.values()) - len(results)
        assert missing <= dropped(name, said), "a busy machine drops frames, and counts them"


def dropped(name: str, said: str) -> int:
    """Frames of a camera that were dropped, as the summary tells."""
    line = re.search(rf"^{name}: dropped (.*)$", said, re.MULTILINE)
    return 0 if line is None else sum(map(int, re.findall(r"(\d+) (?!by )", line[1])))


@pytest.mark.soak
def test_an_engine_that_was_stopped_publishes_nothing_late(broker: RunningBroker, cameras: Cameras) -> None:
    """For 15 s: it goes on. For more than 30 s: its cameras go on elsewhere, and it is ended."""
    with engines("-c", cameras.path, seconds=0.005) as program:
        wait_for(lambda: all(len(cameras.results(name)) > 20 for name in "abcd"), seconds=PATIENCE)
        stopped = engine_pids(program.pid)[0]
        count = cameras.sample("streamseg_engine_streams", engine="0")
        for seconds in (15.0, 35.0):
            os.kill(stopped, signal.SIGSTOP)
            wait_for(lambda: cameras.sample("streamseg_stream_up") == 4 - count, seconds=PATIENCE)
            time.sleep(seconds - QUIET_SECONDS)
            with suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGCONT)
            wait_for(lambda: cameras.sample("streamseg_stream_up") == 4, seconds=PATIENCE)
        program.send_signal(signal.SIGTERM)
        _, said = program.communicate(timeout=PATIENCE)
    assert program.returncode == 143, said
    assert "engine 0 (cpu) died once, at last it said nothing for 30 s and was killed" in said
    moved = [name for name in "abcd" if max(result.epoch for result in seen(broker, name)) > 0]
    assert len(moved) >= count
