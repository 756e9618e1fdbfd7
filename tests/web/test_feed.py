"""The page of what other processes publish to Redis."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from streamseg.errors import UsageError
from streamseg.web.feed import RedisFeed
from streamseg.web.hub import TILE, Hub
from tests.support.broker import RunningBroker, running_broker
from tests.support.media import write_clip
from tests.support.runs import started
from tests.support.servers import rtsp_server
from tests.support.web import is_jpeg


async def until(condition: Callable[[], object], *, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


def test_streams_of_a_broker_are_shown_with_or_without_pictures(tmp_path: Path) -> None:
    write_clip(tmp_path / "camera.mp4", frames=100)
    with rtsp_server(tmp_path) as camera, running_broker(tmp_path / "broker") as broker:
        url = camera.url("camera.mp4")
        painted = ("--redis", broker.url, "--redis-overlays", "--set", "streams.0.id=painted")
        plain = ("--redis", broker.url, "--set", "streams.0.id=plain")
        with started(url, *painted), started(url, *plain):
            asyncio.run(follow(broker))


async def follow(broker: RunningBroker) -> None:
    hub = Hub()
    hub.watch("somebody", {"painted": TILE, "plain": TILE})
    feeding = asyncio.ensure_future(RedisFeed(hub, broker.url).run())
    try:
        for stream in ("painted", "plain"):
            await until(lambda stream=stream: hub.picture(stream) is not None)
            picture = hub.picture(stream)
            assert picture is not None
            assert is_jpeg(picture.jpeg, width=320)
            assert picture.result.stream == stream
        await until(lambda: [s["state"] for s in hub.status()] == ["live", "live"])
        before = hub.picture("painted")
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(0.3)
        await asyncio.to_thread(broker.start)
        await until(lambda: hub.picture("painted") is not before)
    finally:
        feeding.cancel()
        with suppress(asyncio.CancelledError):
            await feeding


def test_a_broker_that_refuses_us_is_said(tmp_path: Path) -> None:
    with running_broker(tmp_path, options=("--requirepass", "secret")) as broker:
        feed = RedisFeed(Hub(), broker.url.replace("redis://", "redis://:wrong@"))
        with pytest.raises(UsageError, match="Redis refuses us") as raised:
            asyncio.run(feed.run())
    assert "wrong@" not in str(raised.value)
