"""Real servers for tests, on free ports of this machine."""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import signal
import socket
import socketserver
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

START_TIMEOUT = 20.0


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class RtspServer:
    """A camera stand-in: clips of a folder over RTSP (TCP); can be killed, frozen and restarted.

    One server plays to as many clients at once as the machine has cores, plus four.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, clip: str, *, loop: bool = True, user: str = "") -> str:
        """Where a clip plays, for ever or once; ``user`` as ``name:password``."""
        login = f"{user}@" if user else ""
        return f"rtsp://{login}127.0.0.1:{self.port}/{clip}?play_count={0 if loop else 1}"

    def start(self) -> None:
        """Start and wait until it listens."""
        program = Path(sysconfig.get_path("scripts")) / "rtsp-server"
        ports = ["--port", str(self.port), "--control-port", str(free_port())]
        self._process = subprocess.Popen(
            [sys.executable, str(program), "--dir", str(self.folder), "--host", "127.0.0.1", *ports],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while not listens(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"the RTSP server did not start on port {self.port}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Let it die as a camera does whose plug is pulled."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Keep the connections but send nothing more."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after :meth:`freeze`."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def rtsp_server(folder: Path) -> Iterator[RtspServer]:
    """A running RTSP server for the clips in ``folder``."""
    server = RtspServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """A web server for the files in ``folder``; gives its URL without a final slash."""
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def copyfile(self, source: IO[bytes], outputfile: IO[bytes]) -> None:  # type: ignore[override]
        """Send a file; a client may hang up when it has seen enough."""
        with contextlib.suppress(ConnectionError):
            super().copyfile(source, outputfile)


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class RefusingServer(socketserver.ThreadingTCPServer):
    """A camera or web server that answers every request with the same status line.

    RTSP clients hear it from DESCRIBE on. The answer quotes the request, as some cameras do.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, answer: str) -> None:
        super().__init__(("127.0.0.1", 0), _Refusal)
        self.answer = answer
        self.attempts = 0

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Refusal(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Answer one client's requests."""
        assert isinstance(self.server, RefusingServer)
        self.server.attempts += 1
        self.request.settimeout(5)
        with contextlib.suppress(OSError):
            while request := self.request.recv(65536).decode("latin-1"):
                self.request.sendall(self._answer(request, self.server.answer).encode())

    def _answer(self, request: str, answer: str) -> str:
        protocol = "RTSP/1.0" if "RTSP/1.0" in request else "HTTP/1.1"
        status = "200 OK" if request.startswith("OPTIONS") else answer
        number = re.search(r"CSeq: *(\d+)", request)
        body = f"not for you: {request.splitlines()[0]}"
        lines = [
            f"{protocol} {status}",
            f"CSeq: {number[1] if number else 0}",
            'WWW-Authenticate: Digest realm="camera", nonce="4b9f5b"',
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join(lines) + f"\r\n\r\n{body}"


@contextlib.contextmanager
def refusing_server(answer: str) -> Iterator[RefusingServer]:
    """A running server that lets nobody in, ``answer`` being e.g. ``401 Unauthorized``."""
    with RefusingServer(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def closing_server(data: bytes) -> Iterator[int]:
    """The port of a web server that states no length and ends its answer by closing the connection."""

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n" + data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
