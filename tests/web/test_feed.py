"""The page of what other processes publish to Redis."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from streamseg.errors import UsageError
from streamseg.redis.keys import overlays_key
from streamseg.redis.publish import RedisOutput
from streamseg.web.feed import RedisFeed
from streamseg.web.hub import TILE, Hub
from tests.support.broker import RunningBroker, running_broker
from tests.support.clips import frame, info, instances, result_of
from tests.support.web import is_jpeg

SIZE = (320, 180)


async def until(condition: Callable[[], object], *, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


@contextmanager
def publishing(broker: RunningBroker, stream: str, *, overlays: bool) -> Iterator[None]:
    """A camera that another process publishes, 20 frames a second."""
    no_more = threading.Event()
    output = RedisOutput(broker.url, overlays=overlays)
    writer = output.open(info(stream, live=True, width=SIZE[0], height=SIZE[1]))

    def publish() -> None:
        index = 0
        while not no_more.wait(0.05):
            taken, found = frame(index, stream=stream, size=SIZE), instances(SIZE, [(20, 20, 90, 120)])
            writer.write(result_of(taken, found), taken if overlays else None, found if overlays else None)
            index += 1

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        no_more.set()
        output.hurry(0.0)
        thread.join()
        output.shutdown()


@asynccontextmanager
async def feeding(hub: Hub, broker: RunningBroker) -> AsyncIterator[None]:
    task = asyncio.ensure_future(RedisFeed(hub, broker.url).run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def test_streams_of_a_broker_are_shown_with_or_without_pictures(broker: RunningBroker) -> None:
    with (
        publishing(broker, "painted", overlays=True),
        publishing(broker, "plain", overlays=False),
    ):
        asyncio.run(follow(broker))


async def follow(broker: RunningBroker) -> None:
    hub = Hub()
    hub.watch("somebody", {"painted": TILE, "plain": TILE})
    async with feeding(hub, broker):
        for stream in ("painted", "plain"):
            await until(lambda stream=stream: hub.picture(stream) is not None)
            picture = hub.picture(stream)
            assert picture is not None
            assert is_jpeg(picture.jpeg, width=320)
            assert picture.result.stream == stream
        await until(lambda: [s["state"] for s in hub.status()] == ["live", "live"])
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(0.3)
        before = hub.picture("painted")
        await asyncio.to_thread(broker.start)
        await until(lambda: hub.picture("painted") is not before)


def test_a_key_that_is_no_stream_does_not_end_the_page(
    broker: RunningBroker, caplog: pytest.LogCaptureFixture
) -> None:
    async def look(broker: RunningBroker) -> None:
        hub = Hub()
        hub.watch("somebody", {"plain": TILE})
        async with feeding(hub, broker):
            await until(lambda: "WRONGTYPE" in caplog.text)
            with broker.client() as client:
                client.delete(overlays_key("plain"))
            await until(lambda: hub.picture("plain") is not None)

    with broker.client() as client:
        client.set(overlays_key("plain"), "no stream")
    with publishing(broker, "plain", overlays=False):
        asyncio.run(look(broker))
    assert caplog.text.count("WRONGTYPE") == 1


def test_a_broker_that_refuses_us_is_said(tmp_path: Path) -> None:
    with running_broker(tmp_path, options=("--requirepass", "secret")) as broker:
        feed = RedisFeed(Hub(), broker.url.replace("redis://", "redis://:wrong@"))
        with pytest.raises(UsageError, match=r"Redis at 127.0.0.1:\d+/0 refuses us") as raised:
            asyncio.run(feed.run())
    assert "wrong@" not in str(raised.value)
