"""Servers that let nobody in: they answer every request of RTSP or HTTP with 401."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator

CHALLENGE = 'Digest realm="camera", nonce="4b9f5b"'


@contextlib.contextmanager
def locked_server() -> Iterator[int]:
    """Gives its port. The answer quotes the request, as some cameras do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()
        thread = threading.Thread(target=_serve, args=(listener, ended))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def _serve(listener: socket.socket, ended: threading.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            client, _ = listener.accept()
            threading.Thread(target=_refuse, args=(client,), daemon=True).start()


def _refuse(client: socket.socket) -> None:
    with client, contextlib.suppress(OSError):
        client.settimeout(5)
        while request := client.recv(65536).decode("latin-1"):
            protocol = "RTSP/1.0" if "RTSP/1.0" in request else "HTTP/1.1"
            number = re.search(r"CSeq: *(\d+)", request)
            body = f"not for you: {request.splitlines()[0]}"
            answer = [
                f"{protocol} 401 Unauthorized",
                f"CSeq: {number[1] if number else 0}",
                f"WWW-Authenticate: {CHALLENGE}",
                f"Content-Length: {len(body)}",
            ]
            client.sendall(("\r\n".join(answer) + f"\r\n\r\n{body}").encode())
