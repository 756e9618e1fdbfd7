"""The live page: its files, and one WebSocket per viewer.

To the viewer: a text message a second with the state of all streams, and binary messages with
pictures (a little-endian uint32 length, that many bytes of JSON, a JPEG). From the viewer: which
streams it shows, and which pictures it has drawn; a slow one is sent fewer, never older ones.
"""

import asyncio
import json
import struct
import time
from collections import Counter
from contextlib import suppress
from importlib.resources import files
from typing import Any

import msgspec
from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler

from streamseg.web.access import Access
from streamseg.web.hub import LARGE, TILE, Hub, Picture

_TICK = 0.04
"""Seconds between two looks for newer pictures."""
_STATUS_SECONDS = 1.0
_IN_FLIGHT = 2
"""Pictures of a stream that a viewer may have been sent but not drawn."""
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_FILES = {"": "index.html"} | {name: name for name in ("page.css", "page.js", "chart.js", "masks.js")}
_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}


class _WatchMessage(msgspec.Struct, tag="watch"):
    """Which streams are shown as tiles, and which one on the whole page."""

    tiles: list[str] = []
    large: str | None = None


class _DrawnMessage(msgspec.Struct, tag="drawn"):
    """A picture of this stream was drawn."""

    stream: str


_decoder = msgspec.json.Decoder(_WatchMessage | _DrawnMessage)


def make_page(hub: Hub, access: Access) -> web.Application:
    """The application that serves the live page of ``hub``."""
    return serve_page(_Viewers(hub).handle, access)


def serve_page(live: Handler, access: Access) -> web.Application:
    """The application that serves the page's files, and ``live`` to each viewer's WebSocket."""
    app = web.Application(middlewares=[access.middleware()])
    for path, name in _FILES.items():
        app.router.add_get(f"/{path}", _file(name))
    app.router.add_get("/live", live)
    return app


def _file(name: str) -> Any:
    content = files("streamseg.web").joinpath("static", name).read_bytes()
    kind = _TYPES[name.rpartition(".")[2]]

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=_HEADERS)

    return serve


class _Viewers:
    """Accepts viewers."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one viewer until it disconnects."""
        socket = web.WebSocketResponse(heartbeat=10.0, max_msg_size=1 << 16)
        try:
            await socket.prepare(request)
        except ConnectionError:  # the viewer has gone again
            return web.Response()
        viewer = _Viewer(self._hub, socket)
        sending = asyncio.create_task(viewer.send_all())
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    viewer.heard(message.data)
        finally:
            sending.cancel()
            self._hub.watch(viewer, {})
            with suppress(asyncio.CancelledError, ConnectionError):
                await sending
        return socket


class _Viewer:
    """One browser."""

    def __init__(self, hub: Hub, socket: web.WebSocketResponse) -> None:
        self._hub, self._socket = hub, socket
        self._watched: dict[str, int] = {}
        self._large: str | None = None
        self._sent: dict[str, Picture] = {}
        self._in_flight: Counter[str] = Counter()
        self._told = 0
        """The last second whose counts were sent."""

    def heard(self, text: str) -> None:
        """Take in a message; what cannot be understood is left out."""
        try:
            message = _decoder.decode(text)
        except msgspec.MsgspecError:
            return
        match message:
            case _DrawnMessage(stream):
                self._in_flight[stream] = max(0, self._in_flight[stream] - 1)
            case _WatchMessage(tiles, large):
                if large and large != self._large:
                    self._sent.pop(large, None)  # once more, with its masks
                self._large = large
                self._watched = dict.fromkeys(tiles, TILE) | ({large: LARGE} if large else {})
                self._hub.watch(self, self._watched)

    async def send_all(self) -> None:
        """Send what is new, until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while not self._socket.closed:
            if loop.time() >= due:
                due = loop.time() + _STATUS_SECONDS
                await self._send_status()
            for stream in list(self._watched):
                await self._send_picture(stream)
            await asyncio.sleep(_TICK)

    async def _send_status(self) -> None:
        streams = self._hub.status(since=self._told)
        self._told = max((at for s in streams for at, _ in s["history"]), default=self._told)
        # Browsers' clocks are wrong by minutes: the page takes the time from here.
        message = {"time": time.time(), "streams": streams, "outputs": self._hub.outputs()}
        await self._socket.send_str(json.dumps(message))

    async def _send_picture(self, stream: str) -> None:
        picture = self._hub.picture(stream)
        if picture is None or picture is self._sent.get(stream) or self._in_flight[stream] >= _IN_FLIGHT:
            return
        self._sent[stream] = picture
        self._in_flight[stream] += 1
        # Masks are needed only where a pointer can ask for them.
        result = msgspec.json.encode(picture.result) if stream == self._large else b"null"
        header = b'{"stream":' + json.dumps(stream).encode() + b',"result":' + result + b"}"
        await self._socket.send_bytes(struct.pack("<I", len(header)) + header + picture.jpeg)
