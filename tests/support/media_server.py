"""A media server to push to: RTSP's ANNOUNCE and RECORD over TCP; it decodes the pictures of each path."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import av
import numpy as np
from numpy.typing import NDArray

REALM = "media"


@dataclass
class Pushed:
    """What came for one path in one connection."""

    path: str
    description: str
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    """Seconds, from RTP's time stamps; those of the pictures."""
    keys: list[float] = field(default_factory=list)
    """Those of the key frames."""
    reports: int = 0
    """Of RTCP."""
    ended: bool = False
    """Whether the other side said good-bye."""


class MediaServer:
    """Listens from :meth:`start` to :meth:`kill`; everything that was pushed is kept in :attr:`pushed`."""

    def __init__(
        self, *, users: dict[str, str] | None = None, algorithm: str = "", scheme: str = "Digest"
    ) -> None:
        """``users``: passwords by name, if any are wanted; ``algorithm`` and ``scheme`` of the login."""
        self.users, self.algorithm, self.scheme = users or {}, algorithm, scheme
        self.pushed: list[Pushed] = []
        self.requests: list[str] = []
        self.refuse: dict[str, str] = {}
        """Statuses by path."""
        self.silent = False
        """Whether connections are taken and nothing is answered."""
        self.closing = False
        """Whether connections are closed as soon as RECORD was answered."""
        self.reading = threading.Event()
        """Cleared, what is sent is left lying in the socket."""
        self.reading.set()
        self._listener: socket.socket | None = None
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])

    def url(self, path: str, *, user: str = "") -> str:
        return f"rtsp://{user and user + '@'}127.0.0.1:{self.port}/{path}"

    def of(self, path: str) -> list[Pushed]:
        return [one for one in self.pushed if one.path == path]

    def start(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port))
        # A small window: what the other side can send ahead is bounded.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        self._listener = listener
        self._begin(lambda: self._accept(listener))

    def kill(self) -> None:
        """All connections break."""
        if self._listener is not None:
            # Closing alone would leave the thread in accept, which keeps the port.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.reading.set()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._connections.clear()
        self._threads.clear()

    def _begin(self, work: object) -> None:
        self._threads.append(threading.Thread(target=work, daemon=True))  # type: ignore[arg-type]
        self._threads[-1].start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self._connections.append(connection)
                self._begin(lambda connection=connection: self._serve(connection))

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as stream:
            _Conversation(self, connection, stream).run()


class _Conversation:
    def __init__(self, server: MediaServer, connection: socket.socket, stream: object) -> None:
        self._server, self._connection, self._stream = server, connection, stream
        self._pushed: Pushed | None = None
        self._pictures: _Pictures | None = None

    def run(self) -> None:
        while first := self._stream.read(1):
            if first == b"$":
                self._take_packet()
                self._server.reading.wait()
            elif not self._answer(first + self._stream.readline()):
                return

    def _take_packet(self) -> None:
        channel, *length = self._stream.read(3)
        packet = self._stream.read(int.from_bytes(bytes(length), "big"))
        assert self._pushed is not None
        assert self._pictures is not None
        if channel == 2:
            self._pictures.take(packet)
        else:
            assert channel == 3
            self._pushed.reports += 1

    def _answer(self, line: bytes) -> bool:
        """Whether the conversation goes on."""
        headers = {}
        while (header := self._stream.readline().decode().strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        body = self._stream.read(int(headers.get("content-length", 0))).decode()
        method, url, _ = line.decode().split()
        self._server.requests.append(line.decode().strip())
        if self._server.silent:
            return True
        path = re.sub(r"^rtsp://[^/]+/", "", url).removesuffix("/streamid=0")
        status, more = self._decide(method, url, path, headers, body)
        lines = [f"RTSP/1.0 {status}", f"CSeq: {headers['cseq']}", *more]
        self._connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        return not (method == "TEARDOWN" or (method == "RECORD" and self._server.closing))

    def _decide(
        self, method: str, url: str, path: str, headers: dict[str, str], body: str
    ) -> tuple[str, list[str]]:
        if self._server.users and not self._let_in(method, url, headers.get("authorization", "")):
            extra = f', algorithm={self._server.algorithm}, qop="auth"' if self._server.algorithm else ""
            nonce = "" if self._server.scheme == "Basic" else f', nonce="4b9f5b"{extra}'
            return "401 Unauthorized", [f'WWW-Authenticate: {self._server.scheme} realm="{REALM}"{nonce}']
        if path in self._server.refuse:
            return self._server.refuse[path], []
        if method == "ANNOUNCE":
            self._pushed = Pushed(path, body)
            self._pictures = _Pictures(self._pushed)
        elif method == "SETUP":
            assert "RTP/AVP/TCP" in headers["transport"]
            # Other channels than were asked for, as a server may choose them.
            return "200 OK", [
                "Transport: RTP/AVP/TCP;unicast;interleaved=2-3",
                "Session: 12345678;timeout=60",
            ]
        elif method == "RECORD":
            assert headers["session"] == "12345678"
            assert self._pushed is not None
            self._server.pushed.append(self._pushed)
        elif method == "TEARDOWN" and self._pushed is not None:
            self._pushed.ended = True
        return "200 OK", []

    def _let_in(self, method: str, url: str, given: str) -> bool:
        if self._server.scheme == "Basic":
            import base64

            known = {base64.b64encode(f"{n}:{p}".encode()).decode() for n, p in self._server.users.items()}
            return given.removeprefix("Basic ") in known
        fields = dict(re.findall(r'(\w+)="?([^",]*)"?', given))
        make = hashlib.sha256 if self._server.algorithm == "SHA-256" else hashlib.md5

        def hashed(*parts: str) -> str:
            return make(":".join(parts).encode()).hexdigest()

        user = fields.get("username", "")
        secret = hashed(user, REALM, self._server.users.get(user, "no such user"))
        middle = [fields.get("nc", ""), fields.get("cnonce", ""), "auth"] if self._server.algorithm else []
        return (
            fields.get("response") == hashed(secret, "4b9f5b", *middle, hashed(method, url))
            and fields["uri"] == url
        )


class _Pictures:
    """Puts the packets of RFC 6184 together and decodes them."""

    def __init__(self, pushed: Pushed) -> None:
        self._pushed = pushed
        self._decoder = av.CodecContext.create("h264", "r")
        self._unit = b""
        self._began: int | None = None
        self._number: int | None = None

    def take(self, packet: bytes) -> None:
        marker, kind = packet[1] >> 7, packet[1] & 0x7F
        assert kind == 96
        number, ticks = int.from_bytes(packet[2:4], "big"), int.from_bytes(packet[4:8], "big")
        assert self._number is None or number == (self._number + 1) % (1 << 16), "a packet is missing"
        self._number = number
        self._began = ticks if self._began is None else self._began
        self._unit += self._payload(packet[12:])
        if marker:
            self._decode(((ticks - self._began) % (1 << 32)) / 90_000)

    def _payload(self, data: bytes) -> bytes:
        start, kind = b"\0\0\0\1", data[0] & 0x1F
        if kind == 28:  # FU-A
            head = start + bytes([data[0] & 0xE0 | data[1] & 0x1F]) if data[1] & 0x80 else b""
            return head + data[2:]
        if kind != 24:  # one NAL unit
            return start + data
        units, rest = b"", data[1:]
        while rest:  # STAP-A
            size = int.from_bytes(rest[:2], "big")
            units += start + rest[2 : 2 + size]
            rest = rest[2 + size :]
        return units

    def _decode(self, seconds: float) -> None:
        packet, self._unit = av.Packet(self._unit), b""
        for frame in self._decoder.decode(packet):
            self._pushed.pictures.append(frame.to_ndarray(format="rgb24"))
            self._pushed.times.append(seconds)
            if frame.key_frame:
                self._pushed.keys.append(seconds)


@contextlib.contextmanager
def media_server(**options: object) -> Iterator[MediaServer]:
    """A running server."""
    server = MediaServer(**options)  # type: ignore[arg-type]
    server.start()
    try:
        yield server
    finally:
        server.kill()
