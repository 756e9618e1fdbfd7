"""An output that is down: the log, /metrics, /readyz, the status in Redis and the page tell the same."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest

from streamseg.config import parse_config
from streamseg.outputs import health
from streamseg.runtime import build
from streamseg.runtime.build import build_pipeline
from streamseg.runtime.pipeline import Pipeline
from streamseg.runtime.services import Services
from streamseg.types import FrameResult, StreamState
from tests.support.broker import RunningBroker, running_broker, wait_for
from tests.support.media import write_clip
from tests.support.moving import Moving
from tests.support.runs import published_frames
from tests.support.servers import RtspServer, rtsp_server
from tests.support.web import get
from tests.web.test_metrics import scrape


def shown_outputs(page: str) -> list[dict[str, Any]]:
    """What the page is told of the outputs."""

    async def listen() -> list[dict[str, Any]]:
        async with aiohttp.ClientSession() as session, session.ws_connect(page + "live") as socket:
            while True:
                if isinstance(data := (await socket.receive(timeout=20)).data, str):
                    return list(json.loads(data)["outputs"])

    return asyncio.run(listen())


class Story:
    """A run of one camera, and all places that tell how it does."""

    def __init__(self, pipeline: Pipeline, services: Services, metrics: str, broker: RunningBroker) -> None:
        self.pipeline, self.services, self.metrics, self.broker = pipeline, services, metrics, broker

    def up(self, output: str) -> bool:
        return scrape(self.metrics)["streamseg_output_up", output] == 1

    def dropped(self, output: str) -> int:
        return int(scrape(self.metrics).get(("streamseg_output_dropped_results_total", output, "cam"), 0))

    def status(self) -> dict[str, str]:
        with self.broker.client(decode_responses=True) as client:
            found: Any = client.hgetall("streamseg:{cam}:status")
            return dict(found)

    def check_down(self, output: str, why: str, log: str) -> None:
        """All say that the output is down, and that the camera is fine."""
        wait_for(lambda: not self.up(output), what=f"{output} down")
        wait_for(lambda: scrape(self.metrics)["streamseg_output_errors_total", output] >= 1)
        code, text = get(self.metrics + "readyz")
        assert code == 503
        assert re.search(f"^{output}: .*{why}", text.decode())
        wait_for(lambda: re.search(f"{output}: .*{why}", self.status().get("outputs", "")))
        assert self.status()["state"] == "live"
        assert scrape(self.metrics)["streamseg_stream_up", "cam"] == 1
        (shown,) = (o for o in shown_outputs(self.services.urls[0]) if o["name"] == output)
        assert re.search(why, shown["trouble"])
        assert re.search(why, log)

    def check_up(self, output: str) -> None:
        wait_for(lambda: self.up(output), seconds=30, what=f"{output} up")
        assert get(self.metrics + "readyz") == (200, b"ok\n")
        wait_for(lambda: self.status().get("outputs") == "")


@contextmanager
def told(
    tmp_path: Path, broker: RunningBroker, camera: RtspServer, *outputs: dict[str, Any]
) -> Iterator[Story]:
    content = {
        "streams": [{"id": "cam", "url": camera.url("clip.mp4")}],
        "model": {"weights": "0"},
        "outputs": [{"type": "redis", "url": broker.url}, *outputs],
        "view": {"enabled": True, "port": 0},
        "metrics": {"enabled": True, "port": 0},
    }
    config = parse_config(content, where="test")
    with (
        patch.object(build, "OomGuard", Moving),
        patch.object(health, "STUCK_SECONDS", 1.0),
        Services(config) as services,
    ):
        pipeline = build_pipeline(
            config, outputs=services.outputs, observe=services.observe, meter=services.meter
        )
        services.attach(pipeline)
        with pipeline:
            wait_for(lambda: pipeline.stats.streams["cam"].results > 5, seconds=40)
            yield Story(pipeline, services, services.urls[1], broker)
            pipeline.stop()
            pipeline.join()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[RunningBroker]:
    with running_broker(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[RtspServer]:
    folder = tmp_path / "media"
    folder.mkdir()
    write_clip(folder / "clip.mp4", frames=200, bframes=0, gop=10)
    with rtsp_server(folder) as server:
        yield server


def test_a_broker_that_is_away_and_back(
    tmp_path: Path, broker: RunningBroker, camera: RtspServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with running_broker(tmp_path / "other") as other:
        with told(tmp_path, broker, camera, {"type": "redis", "url": other.url}) as story:
            story.check_up("RedisOutput")
            other.kill()
            wait_for(lambda: not story.up("RedisOutput-2"), what="its loss")
            story.check_down("RedisOutput-2", "has not written|cannot be reached", caplog.text)
            assert story.up("RedisOutput")
            other.start()
            story.check_up("RedisOutput-2")
            assert story.dropped("RedisOutput-2") == 0, "its backlog has kept them all"
        stats = story.pipeline.stats.streams["cam"]
        assert len(published_frames(broker, "cam")) == stats.results
        assert len(published_frames(other, "cam")) == stats.results
    assert stats.state is StreamState.ENDED


def test_a_file_that_cannot_be_written_leaves_the_camera_live(
    tmp_path: Path, broker: RunningBroker, camera: RtspServer, caplog: pytest.LogCaptureFixture
) -> None:
    os.symlink("/dev/full", tmp_path / "full.ndjson.partial")
    output = {"type": "ndjson", "path": str(tmp_path / "full.ndjson")}
    with told(tmp_path, broker, camera, output) as story:
        story.check_down("NdjsonOutput", "No space left", caplog.text)
        wait_for(lambda: story.dropped("NdjsonOutput") > 10)
        wait_for(lambda: "failed" not in story.status().values())
        results = story.pipeline.stats.streams["cam"].results
        wait_for(lambda: story.pipeline.stats.streams["cam"].results > results + 5)
    assert story.status()["state"] == "ended"
    lost = story.pipeline.output_health()[1].dropped["cam"]
    assert lost == story.pipeline.stats.streams["cam"].results


def test_an_output_that_hangs_is_stuck_and_says_so(
    tmp_path: Path, camera: RtspServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    go_on = tmp_path / "go on"

    def hang(result: FrameResult, *_: object) -> None:
        if result.frame > 5:
            wait_for(go_on.exists, seconds=60)

    content = {"streams": [{"id": "cam", "url": camera.url("clip.mp4")}], "model": {"weights": "0"}}
    config = parse_config(content, where="test")
    with patch.object(build, "OomGuard", Moving), patch.object(health, "STUCK_SECONDS", 0.5):
        pipeline = build_pipeline(config, outputs=[hang])
        with pipeline:
            wait_for(lambda: not pipeline.output_health()[0].up, seconds=40)
            wait_for(lambda: "FunctionOutput has not written a result of stream cam" in caplog.text)
            go_on.touch()
            wait_for(lambda: pipeline.output_health()[0].up)
            wait_for(lambda: "FunctionOutput takes results again" in caplog.text)
            assert pipeline.output_health()[0].errors >= 1
            pipeline.stop()
            pipeline.join()
    counted = pipeline.stats.streams["cam"].dropped["by FunctionOutput"]
    assert pipeline.output_health()[0].dropped.get("cam", 0) == counted
