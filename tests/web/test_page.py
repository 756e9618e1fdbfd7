"""The live page's WebSocket: what a browser is told and sent."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from streamseg.scale.page import PageProxy, PageSource
from streamseg.web.access import Access
from streamseg.web.hub import LARGE, TILE, Hub
from streamseg.web.page import serve_page
from streamseg.web.server import WebServer
from tests.support.web import HEIGHT, WIDTH, Viewer, feed, get, is_jpeg, served, showing


def view(hub: Hub, act: Callable[[Viewer], Awaitable[Any]]) -> Any:
    """Open a page and do something with it."""

    async def visit(url: str) -> Any:
        async with aiohttp.ClientSession() as session, session.ws_connect(url + "live") as socket:
            return await act(Viewer(socket))

    with served(hub) as url:
        return asyncio.run(visit(url))


@contextmanager
def filming(hub: Hub, *streams: str, wide: int = WIDTH) -> Iterator[None]:
    """Cameras that go on until the end."""
    writers, stop = {stream: showing(hub, stream) for stream in streams}, threading.Event()

    def film() -> None:
        number = 0
        while not stop.wait(0.02):
            number += 1
            for stream, writer in writers.items():
                feed(writer, stream, number, height=wide * HEIGHT // WIDTH, width=wide)

    thread = threading.Thread(target=film)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_viewer_sees_states_and_pictures_change() -> None:
    hub = Hub()

    async def act(viewer: Viewer) -> None:
        while set(await viewer.status()) != {"lobby", "yard"}:
            pass
        await viewer.say(type="watch", tiles=["lobby", "yard"])
        seen: dict[str, set[bytes]] = {"lobby": set(), "yard": set()}
        while min(map(len, seen.values())) < 4:
            stream, result, jpeg = await viewer.picture()
            assert result is None
            assert is_jpeg(jpeg, width=WIDTH)
            seen[stream].add(jpeg)
            await viewer.say(type="drawn", stream=stream)
        status = await viewer.status()
        while not all(stream["history"] for stream in status.values()):
            status = await viewer.status()
        assert status["yard"]["fps"] > 1
        assert set(status["yard"]["history"][-1][1]) <= {"person", "car"}

    with filming(hub, "lobby", "yard"):
        view(hub, act)
    assert hub.watched == set(), "who has gone is not painted for"


def test_one_stream_large_comes_with_its_masks() -> None:
    hub = Hub()

    async def act(viewer: Viewer) -> None:
        await viewer.say(type="watch", tiles=["lobby"])
        _, _, small = await viewer.picture()
        await viewer.say(type="watch", tiles=[], large="lobby")
        stream, result, jpeg = await viewer.picture()
        while not is_jpeg(jpeg, width=LARGE):
            assert is_jpeg(jpeg, width=TILE), "painted before it was asked for large"
            await viewer.say(type="drawn", stream=stream)
            stream, result, jpeg = await viewer.picture()
        assert is_jpeg(small, width=TILE)
        assert result is not None
        assert result["stream"] == "lobby"
        assert all(instance["mask"]["counts"] for instance in result["instances"])

    with filming(hub, "lobby", wide=1600):
        view(hub, act)


def test_a_viewer_that_does_not_keep_up_is_sent_no_more() -> None:
    hub = Hub()

    async def act(viewer: Viewer) -> int:
        await viewer.say(type="watch", tiles=["lobby"])
        for _ in range(2):
            await viewer.picture()
        try:
            async with asyncio.timeout(1.0):
                await viewer.picture()
        except TimeoutError:
            pass
        else:
            raise AssertionError("a third picture came before the first was drawn")
        await viewer.say(type="drawn", stream="lobby")
        await viewer.picture()
        return 0

    with filming(hub, "lobby"):
        assert view(hub, act) == 0


def test_nonsense_from_a_viewer_does_no_harm() -> None:
    hub = Hub()

    async def act(viewer: Viewer) -> None:
        for message in (
            {"type": "watch", "tiles": 3},
            {"type": "other"},
            {},
            {"type": "drawn", "stream": "x"},
        ):
            await viewer.say(**message)
        await viewer.say(type="watch", tiles=["nothing", "lobby"])
        assert (await viewer.picture())[0] == "lobby"

    with filming(hub, "lobby"):
        view(hub, act)


def test_many_viewers_share_one_picture() -> None:
    """The run paints once, however many look."""
    hub, painted = Hub(), []

    async def watch_all(url: str) -> None:
        async with aiohttp.ClientSession() as session:
            sockets = [await session.ws_connect(url + "live") for _ in range(30)]
            viewers = [Viewer(socket) for socket in sockets]
            for viewer in viewers:
                await viewer.say(type="watch", tiles=["lobby"])
            while len(hub.watched) < 1:
                await asyncio.sleep(0.01)
            writer, end = showing(hub, "lobby"), time.monotonic() + 1.0
            number = 0
            while time.monotonic() < end:
                number += 1
                feed(writer, "lobby", number)
                if (picture := hub.picture("lobby")) is not None:
                    painted.append(id(picture.jpeg))
                await asyncio.sleep(0.005)
            assert all([is_jpeg((await viewer.picture())[2], width=WIDTH) for viewer in viewers])
            for socket in sockets:
                await socket.close()

    with served(hub) as url:
        asyncio.run(watch_all(url))
    assert len(set(painted)) <= 14  # twelve a second


@contextmanager
def served_for_engines() -> Iterator[str]:
    """The page of a run on several engines, none of which is there."""
    nothing = PageSource(lambda: [], lambda: [], lambda _: None, lambda: [], "token")
    page, access = PageProxy(nothing), Access("127.0.0.1", None)
    with WebServer(lambda: serve_page(page.handle, access), host="127.0.0.1", port=0, name="view") as server:
        yield server.url


@pytest.mark.parametrize("serve", [lambda: served(Hub()), served_for_engines], ids=["engine", "engines"])
def test_a_viewer_that_is_gone_before_it_is_answered_is_no_error(
    serve: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with serve() as url:
        at = urlsplit(url)
        for _ in range(5):
            with socket.create_connection((at.hostname, at.port)) as viewer:
                viewer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset
                viewer.sendall(
                    b"GET /live HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
                )
        assert get(url)[0] == 200
    assert not caplog.records
