"""The live page of several engines: each viewer sees them as one.

    engine 0 --+
    engine 1 --+-- (WebSockets) -- one for each viewer -- browser

What a viewer says goes to every engine; pictures come from the engine that has the stream, untouched; once a
second the states of all are put together.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

_LOOK_SECONDS = 0.25
"""Between two looks for engines that have come."""
_STATUS_SECONDS = 1.0
_RECENT_SECONDS = 5.0
"""An engine tells how its streams do once a second: one that hangs has nothing to tell."""
_WAIT = aiohttp.ClientTimeout(total=None, connect=5.0)

Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EnginePage:
    """The page of one engine process."""

    owner: int
    """Tells the process from all others."""
    url: str


@dataclass(frozen=True, slots=True)
class PageSource:
    """Where the page's content comes from; the calls are made in the web server's thread."""

    engines: Callable[[], Sequence[EnginePage]]
    streams: Callable[[], Sequence[Status]]
    """All streams of the run with what is known of them over all engines; it counts for more than what one
    engine says."""
    owner: Callable[[str], int | None]
    """Which process has a stream now."""
    outputs: Callable[[], Sequence[Status]]
    token: str
    """What the engines' pages ask for."""


class PageProxy:
    """Accepts viewers."""

    def __init__(self, source: PageSource) -> None:
        self._source = source

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One viewer from coming to going."""
        socket = web.WebSocketResponse(heartbeat=10.0, max_msg_size=1 << 16)
        try:
            await socket.prepare(request)
        except ConnectionError:  # the viewer has gone again
            return web.Response()
        headers = {"Authorization": f"Bearer {self._source.token}"}
        async with aiohttp.ClientSession(headers=headers, timeout=_WAIT) as session:
            viewer = _Viewer(self._source, socket, session)
            serving = asyncio.create_task(viewer.serve())
            try:
                async for message in socket:
                    if message.type is WSMsgType.TEXT:
                        await viewer.heard(message.data)
            finally:
                serving.cancel()
                with suppress(asyncio.CancelledError, ConnectionError):
                    await serving
        return socket


class _Viewer:
    """One browser, and its connections to all engines."""

    def __init__(
        self, source: PageSource, socket: web.WebSocketResponse, session: aiohttp.ClientSession
    ) -> None:
        self._source, self._socket, self._session = source, socket, session
        self._following: dict[int, asyncio.Task[None]] = {}
        self._engines: dict[int, aiohttp.ClientWebSocketResponse] = {}
        self._told: dict[int, dict[str, Status]] = {}
        """What each engine has said of its streams last."""
        self._told_at: dict[int, float] = {}
        self._history: dict[str, list[Any]] = {}
        """Seconds of each stream that are not sent yet."""
        self._watch: str | None = None
        """What the viewer wants to see, for engines that are still to come."""

    async def heard(self, text: str) -> None:
        """Hand a message on. What cannot be understood, the engines leave out."""
        if '"watch"' in text:
            self._watch = text
        for engine in list(self._engines.values()):
            with suppress(ConnectionError, aiohttp.ClientError):
                await engine.send_str(text)

    async def serve(self) -> None:
        """Follow all engines and tell of them, until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        try:
            while not self._socket.closed:
                for engine in self._source.engines():
                    known = self._following.get(engine.owner)
                    if known is None or known.done():
                        self._following[engine.owner] = asyncio.create_task(self._follow(engine))
                if loop.time() >= due:
                    due = loop.time() + _STATUS_SECONDS
                    await self._socket.send_str(json.dumps(self._status()))
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            for task in self._following.values():
                task.cancel()
            await asyncio.gather(*self._following.values(), return_exceptions=True)

    async def _follow(self, engine: EnginePage) -> None:
        """Hand on what an engine sends, until it is gone."""
        with suppress(ConnectionError, aiohttp.ClientError, asyncio.TimeoutError):
            async with self._session.ws_connect(f"{engine.url}live", max_msg_size=0) as socket:
                self._engines[engine.owner] = socket
                try:
                    if self._watch is not None:
                        await socket.send_str(self._watch)
                    async for message in socket:
                        await self._take(engine.owner, message)
                finally:
                    del self._engines[engine.owner]
                    self._told.pop(engine.owner, None)

    async def _take(self, owner: int, message: aiohttp.WSMessage) -> None:
        if message.type is WSMsgType.BINARY:
            # The last picture of an engine that had the stream before is not to come behind newer ones.
            if self._source.owner(_stream_of(message.data)) in {owner, None}:
                await self._socket.send_bytes(message.data)
        elif message.type is WSMsgType.TEXT:
            self._told_at[owner] = time.monotonic()
            self._told[owner] = {stream["id"]: stream for stream in json.loads(message.data)["streams"]}
            for name, stream in self._told[owner].items():
                self._history.setdefault(name, []).extend(stream["history"])

    def _status(self) -> Status:
        streams = [self._state(of_run) for of_run in self._source.streams()]
        self._history.clear()
        return {"time": time.time(), "streams": streams, "outputs": list(self._source.outputs())}

    def _state(self, of_run: Status) -> Status:
        """A stream as the engine tells that has it, or had it last."""
        name = of_run["id"]
        recent = time.monotonic() - _RECENT_SECONDS
        telling = {
            owner: streams[name]
            for owner, streams in self._told.items()
            if name in streams and self._told_at[owner] >= recent
        }
        owner = self._source.owner(name)
        if owner is None:
            owner = max(telling, default=None)
        told = {} if owner is None else telling.get(owner, {})
        seconds = sorted(self._history.get(name, ()), key=lambda second: second[0])
        nothing = {"age": None, "fps": 0.0, "latency_ms": None}
        return nothing | told | of_run | {"history": seconds}


def _stream_of(picture: bytes) -> str:
    """Whose picture it is, see :mod:`streamseg.web.page`: without reading the masks behind it."""
    (length,) = struct.unpack_from("<I", picture)
    head, _, _ = picture[4 : 4 + length].partition(b',"result":')
    return str(json.loads(head + b"}")["stream"])
