"""TLS in front of a broker that knows none: a proxy with a certificate made on the spot."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import trustme


@contextlib.contextmanager
def tls_in_front_of(port: int, folder: Path, *, name: str = "localhost") -> Iterator[tuple[int, Path]]:
    """Gives the proxy's port and the file of the authority that signed its certificate for ``name``."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()
        thread = threading.Thread(target=_serve, args=(listener, context, port, ended))
        thread.start()
        try:
            yield listener.getsockname()[1], folder / "ca.pem"
        finally:
            ended.set()
            thread.join()


def _serve(listener: socket.socket, context: ssl.SSLContext, port: int, ended: threading.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            client, _ = listener.accept()
            threading.Thread(target=_forward, args=(client, context, port, ended), daemon=True).start()


def _forward(client: socket.socket, context: ssl.SSLContext, port: int, ended: threading.Event) -> None:
    with client, contextlib.suppress(OSError):
        client.settimeout(5)
        with (
            context.wrap_socket(client, server_side=True) as inside,
            socket.create_connection(("127.0.0.1", port)) as broker,
        ):
            back = threading.Thread(target=_copy, args=(broker, inside, ended), daemon=True)
            back.start()
            _copy(inside, broker, ended)
            back.join()


def _copy(source: socket.socket, target: socket.socket, ended: threading.Event) -> None:
    """Until either side hangs up; then both."""
    source.settimeout(0.2)
    with contextlib.suppress(OSError):
        while not ended.is_set():
            try:
                data = source.recv(65536)
            except TimeoutError:
                continue
            if not data:
                break
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
