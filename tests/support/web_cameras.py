"""Cameras and recordings behind HTTP: one real server that answers as each kind of them does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
import numpy as np
from aiohttp import web

from streamseg.web.server import WebServer
from tests.support.media import counter_picture

TS_PACKET = 188


@dataclass
class Served:
    """Where it listens, what it was asked for, and what a test may change while it runs."""

    url: str = ""
    """Without a final slash."""
    requests: list[str] = field(default_factory=list)
    """Paths, in order."""
    broken: bool = False
    """Whether cameras close their connections and take no new ones."""


def jpeg(number: int, *, width: int = 320, height: int = 240) -> bytes:
    """A picture of :func:`tests.support.media.counter_picture`, with noise, so that it has 20 KB and more."""
    picture = counter_picture(number % 65536, width, height) // 2
    picture += np.random.default_rng(0).integers(0, 100, picture.shape, np.uint8)
    return cv2.imencode(".jpg", picture)[1].tobytes()


@contextmanager
def web_cameras(folder: Path | None = None, *, fps: float = 8.0) -> Iterator[Served]:
    """A running server.

    ``/mjpeg``: multipart, as most cameras do; ``/chunked``: JPEGs one after the other, without a length; both
    ``fps`` pictures a second, numbered since the server's start. ``/bytes/NAME``: a file at once, without
    length or ranges; ``/paced/NAME``: a transport stream in its own time, from where it is now, for ever;
    ``/live/NAME``: an HLS playlist (a folder made by :func:`write_segments`) that grows in its own time;
    ``/files/NAME``: files with length and ranges.
    """
    served, began = Served(), time.monotonic()

    def make_app() -> web.Application:
        app = web.Application(middlewares=[_noting(served)])
        app.router.add_get("/mjpeg", _pictures(served, fps, began, multipart=True))
        app.router.add_get("/chunked", _pictures(served, fps, began, multipart=False))
        if folder is not None:
            app.router.add_get("/bytes/{name}", _unsized(folder))
            app.router.add_get("/paced/{name}", _paced(folder, began))
            app.router.add_get("/live/{name}/index", _playlist(folder, began))
            app.router.add_get("/live/{name}/index.m3u8", _playlist(folder, began))
            app.router.add_static("/live", folder)
            app.router.add_static("/files", folder)
        return app

    with WebServer(make_app, host="127.0.0.1", port=0, name="cameras") as server:
        served.url = server.url.rstrip("/")
        yield served


def _noting(served: Served) -> Callable[..., object]:
    @web.middleware
    async def note(request: web.Request, handler: Callable[..., object]) -> object:
        served.requests.append(request.path)
        if served.broken:
            raise web.HTTPServiceUnavailable
        return await handler(request)  # type: ignore[misc]

    return note


def _pictures(served: Served, fps: float, began: float, *, multipart: bool) -> Callable[..., object]:
    kind = "multipart/x-mixed-replace; boundary=frame" if multipart else "video/x-motion-jpeg"

    async def send(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Type": kind})
        if not multipart:
            answer.enable_chunked_encoding()
        await answer.prepare(request)
        while not served.broken:
            number = int((time.monotonic() - began) * fps) + 1
            await asyncio.sleep(max(0.0, began + number / fps - time.monotonic()))
            picture = jpeg(number)
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            try:
                await answer.write(head.encode() + picture + b"\r\n" if multipart else picture)
            except ConnectionError:
                break
        if request.transport is not None:
            request.transport.close()
        return answer

    return send


def _unsized(folder: Path) -> Callable[..., object]:
    async def send(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        await answer.write((folder / request.match_info["name"]).read_bytes())
        return answer

    return send


def _paced(folder: Path, began: float) -> Callable[..., object]:
    async def send(request: web.Request) -> web.StreamResponse:
        path = folder / request.match_info["name"]
        data, seconds = path.read_bytes(), _seconds(path)
        packets, rate = len(data) // TS_PACKET, len(data) / TS_PACKET / seconds
        answer = web.StreamResponse(headers={"Content-Type": "video/mp2t"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        sent = int((time.monotonic() - began) * rate)
        while True:
            await asyncio.sleep(0.02)
            now = int((time.monotonic() - began) * rate)
            chunk = b"".join(_packet(data, n % packets) for n in range(sent, now))
            sent = now
            try:
                await answer.write(chunk)
            except ConnectionError:
                return answer

    return send


def _packet(data: bytes, number: int) -> bytes:
    return data[number * TS_PACKET : (number + 1) * TS_PACKET]


def _seconds(path: Path) -> float:
    with av.open(str(path)) as container:
        assert container.duration is not None
        return container.duration / 1e6


def _playlist(folder: Path, began: float) -> Callable[..., object]:
    async def send(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        segments = sorted((folder / name).glob("*.ts"))
        length = float((folder / name / "seconds").read_text())
        ready = min(int((time.monotonic() - began) / length) + 3, len(segments))
        shown = segments[max(0, ready - 5) : ready]
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{round(length)}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{max(0, ready - 5)}")
        for segment in shown:
            lines += [f"#EXTINF:{length:.3f},", f"/live/{name}/{segment.name}"]
        return web.Response(text="\n".join(lines) + "\n", content_type="application/vnd.apple.mpegurl")

    return send


def write_segments(folder: Path, *, count: int, seconds: float = 2.0, fps: int = 25) -> Path:
    """Write HLS segments that begin with key frames; the pictures count on over them."""
    folder.mkdir()
    (folder / "seconds").write_text(str(seconds))
    pattern = str(folder / "%04d.ts")
    options = {"segment_time": str(seconds), "segment_format": "mpegts", "segment_list_type": "m3u8"}
    options["segment_list"] = str(folder / "vod.m3u8")
    gop = round(seconds * fps)
    with av.open(pattern, "w", format="segment", options=options) as container:
        video = container.add_stream(
            "libx264", rate=fps, options={"preset": "ultrafast", "g": str(gop), "bf": "0"}
        )
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        for number in range(count * gop):
            frame = av.VideoFrame.from_ndarray(counter_picture(number, 160, 120), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return folder


async def _no_bytes() -> AsyncIterator[bytes]:
    yield b""
