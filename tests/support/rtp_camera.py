"""A camera that sends RTP over UDP, and loses packets on demand: what the RTSP server of tests cannot do."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction

import av
import numpy as np

from tests.support.media import counter_picture

FPS = 25
WIDTH, HEIGHT = 320, 240
_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\n"
    "a=framerate:25\r\na=control:track1\r\n"
)


class RtpCamera:
    """Sends to one client at a time, from ``PLAY`` until it is gone."""

    def __init__(self) -> None:
        self.lose_every = 0
        """Lose each so-many-th packet, 0 for none."""
        self.ahead = 0.0
        """Seconds by which its time stamps run ahead: more from one moment to the next is a jump."""
        self.lost = 0
        """Packets that were not sent on."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._relay.bind(("127.0.0.1", 0))
        self._relay.settimeout(0.1)
        self._client: tuple[str, int] | None = None
        self._over = threading.Event()
        self._threads = [threading.Thread(target=t) for t in (self._serve, self._forward, self._encode)]

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._listener.getsockname()[1]}/camera"

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()
        self._relay.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            with suppress(OSError):
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(0.1)
                    self._talk(connection)
            self._client = None

    def _talk(self, connection: socket.socket) -> None:
        while not self._over.is_set():
            try:
                request = connection.recv(65536).decode()
            except TimeoutError:
                continue
            if not request:
                return
            connection.sendall(self._answer(request).encode())

    def _answer(self, request: str) -> str:
        method = request.split(maxsplit=1)[0]
        number = re.search(r"CSeq: *(\d+)", request)
        lines = ["RTSP/1.0 200 OK", f"CSeq: {number[1] if number else 0}"]
        body = ""
        if method == "OPTIONS":
            lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            body = _SDP
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            ports = re.search(r"client_port=(\d+)-(\d+)", request)
            assert ports is not None, "this camera has UDP only"
            self._address = ("127.0.0.1", int(ports[1]))
            lines += [
                f"Transport: RTP/AVP/UDP;unicast;client_port={ports[1]}-{ports[2]};"
                f"server_port={self._relay.getsockname()[1]}-{self._relay.getsockname()[1] + 1}",
                "Session: 1",
            ]
        elif method == "PLAY":
            self._client = self._address
            lines.append("Session: 1")
        return "\r\n".join(lines) + "\r\n\r\n" + body

    def _forward(self) -> None:
        count = 0
        while not self._over.is_set():
            with suppress(TimeoutError):
                packet = self._relay.recv(65536)
                count += 1
                if self.lose_every and count % self.lose_every == 0:
                    self.lost += 1
                elif self._client is not None:
                    self._relay.sendto(packet, self._client)

    def _encode(self) -> None:
        noise = np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH, 3), np.uint8)
        options = {"preset": "ultrafast", "tune": "zerolatency", "g": "25", "bf": "0"}
        port = self._relay.getsockname()[1]
        with av.open(f"rtp://127.0.0.1:{port}?rtcpport={port + 1}", "w", format="rtp") as container:
            video = container.add_stream("libx264", rate=FPS, options=options)
            video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            began, number = time.monotonic(), 0
            while not self._over.wait(max(0.0, began + number / FPS - time.monotonic())):
                pixels = counter_picture(number % 65536, WIDTH, HEIGHT) // 4 * 3 + np.roll(noise, number, 1)
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = number + round(self.ahead * FPS), Fraction(1, FPS)
                container.mux(video.encode(frame))
                number += 1


@contextmanager
def rtp_camera() -> Iterator[RtpCamera]:
    """A camera that sends."""
    camera = RtpCamera()
    camera.start()
    try:
        yield camera
    finally:
        camera.stop()
