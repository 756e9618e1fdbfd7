"""A run of one camera, and all places that tell how it does: metrics, readiness, status, page."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import aiohttp
import pytest

from streamseg.config import parse_config
from streamseg.outputs import health
from streamseg.runtime.build import build_pipeline
from streamseg.runtime.pipeline import Pipeline
from streamseg.runtime.services import Services
from tests.support.broker import RunningBroker, wait_for
from tests.support.moving import Moving
from tests.support.web import get
from tests.web.test_metrics import scrape


def shown(page: str) -> dict[str, Any]:
    """What the page is told of streams and outputs."""

    async def listen() -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.ws_connect(page + "live") as socket:
            while True:
                if isinstance(data := (await socket.receive(timeout=20)).data, str):
                    return dict(json.loads(data))

    return asyncio.run(listen())


class Story:
    """A run of one camera, and all places that tell how it does."""

    def __init__(self, pipeline: Pipeline, services: Services, metrics: str, broker: RunningBroker) -> None:
        self.pipeline, self.services, self.metrics, self.broker = pipeline, services, metrics, broker

    def up(self, output: str) -> bool:
        return scrape(self.metrics)["streamseg_output_up", output] == 1

    def dropped(self, output: str) -> int:
        return int(scrape(self.metrics).get(("streamseg_output_dropped_results_total", output, "cam"), 0))

    def page(self) -> dict[str, Any]:
        """The camera on the page."""
        (stream,) = shown(self.services.urls[0])["streams"]
        return dict(stream)

    def status(self) -> dict[str, str]:
        with self.broker.client(decode_responses=True) as client:
            found: Any = client.hgetall("streamseg:{cam}:status")
            return dict(found)

    def check_down(self, output: str, why: str, log: pytest.LogCaptureFixture) -> None:
        """All say that the output is down, and that the camera is fine."""
        wait_for(lambda: not self.up(output), what=f"{output} down")
        wait_for(lambda: scrape(self.metrics)["streamseg_output_errors_total", output] >= 1)
        code, text = get(self.metrics + "readyz")
        assert code == 503
        assert re.search(f"(^|; ){output}: .*{why}", text.decode())
        wait_for(lambda: re.search(f"{output}: .*{why}", self.status().get("outputs", "")))
        assert self.status()["state"] == "live"
        assert scrape(self.metrics)["streamseg_stream_up", "cam"] == 1
        (told,) = (o for o in shown(self.services.urls[0])["outputs"] if o["name"] == output)
        assert re.search(why, told["trouble"])
        wait_for(lambda: re.search(why, log.text), what=f"log: {why}")

    def check_up(self, output: str) -> None:
        wait_for(lambda: self.up(output), seconds=30, what=f"{output} up")
        assert get(self.metrics + "readyz") == (200, b"ok\n")
        wait_for(lambda: self.status().get("outputs") == "")


@contextmanager
def told(
    broker: RunningBroker, stream: dict[str, Any], *outputs: dict[str, Any], results: int = 6
) -> Iterator[Story]:
    """A story, once there are so many results; ``stream`` and ``outputs`` as in a configuration."""
    content = {
        "streams": [{"id": "cam", **stream}],
        "model": {"weights": "0"},
        "outputs": [{"type": "redis", "url": broker.url}, *outputs],
        "view": {"enabled": True, "port": 0},
        "metrics": {"enabled": True, "port": 0},
    }
    config = parse_config(content, where="test")
    with (
        patch("streamseg.inference.OomGuard", Moving),
        patch.object(health, "STUCK_SECONDS", 1.0),
        Services(config) as services,
    ):
        pipeline = build_pipeline(
            config, outputs=services.outputs, observe=services.observe, meter=services.meter
        )
        services.attach(pipeline)
        with pipeline:
            wait_for(lambda: pipeline.stats.streams["cam"].results >= results, seconds=40)
            yield Story(pipeline, services, services.urls[1], broker)
            pipeline.stop()
            pipeline.join()
