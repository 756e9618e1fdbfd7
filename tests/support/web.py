"""A page that is served and fed, for the tests of this folder."""

from __future__ import annotations

import json
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import aiohttp
import numpy as np

from streamseg.results.frame_result import frame_result
from streamseg.types import Frame, FrameResult
from streamseg.web.access import Access
from streamseg.web.hub import Hub
from streamseg.web.output import ViewOutput
from streamseg.web.page import make_page
from streamseg.web.server import WebServer
from tests.support.media import counter_picture
from tests.support.moving import objects_in

HEIGHT, WIDTH = 240, 320


@contextmanager
def served(hub: Hub, *, host: str = "127.0.0.1", token: str | None = None) -> Iterator[str]:
    """The address of a page that shows ``hub``; ends in a slash."""
    access = Access(host, token)
    with WebServer(lambda: make_page(hub, access), host=host, port=0, name="view") as server:
        yield server.url


def feed(
    output: ViewOutput, stream: str, number: int, *, height: int = HEIGHT, width: int = WIDTH
) -> FrameResult:
    """Write frame ``number`` of a stream, a picture that shows it, with up to four objects."""
    pixels = counter_picture(number, width, height)
    frame = Frame(stream, 0, number, number, Fraction(1, 25), 1e9 + number / 25, pixels)
    instances = objects_in(number, height, width)
    result = frame_result(frame, instances, model="moving", published_at=frame.decoded_at + 0.05)
    output.write(result, frame, instances)
    return result


def get(url: str, headers: Mapping[str, str] = {}) -> tuple[int, bytes]:
    """Status and body; redirects are followed without cookies."""
    request = urllib.request.Request(url, headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Viewer:
    """What a browser does, on a WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def say(self, **message: Any) -> None:
        await self._socket.send_str(json.dumps(message))

    async def status(self) -> dict[str, dict[str, Any]]:
        """The next states, by stream; pictures on the way are left out."""
        while True:
            message = await self._socket.receive(timeout=20)
            if message.type is aiohttp.WSMsgType.TEXT:
                return {stream["id"]: stream for stream in json.loads(message.data)["streams"]}

    async def picture(self) -> tuple[str, dict[str, Any] | None, bytes]:
        """Stream, result and JPEG of the next picture; states on the way are left out."""
        while True:
            message = await self._socket.receive(timeout=20)
            if message.type is aiohttp.WSMsgType.BINARY:
                (length,) = struct.unpack_from("<I", message.data)
                header = json.loads(message.data[4 : 4 + length])
                return header["stream"], header["result"], message.data[4 + length :]


def is_jpeg(data: bytes, *, width: int) -> bool:
    import cv2

    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return picture is not None and picture.shape[1] == width
