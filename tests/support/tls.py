"""Proxies in front of brokers: with TLS and a certificate made on the spot, or that lead elsewhere later."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import trustme


class TlsProxy:
    """Encrypts for a broker; its certificate can be changed while it runs."""

    def __init__(self, folder: Path, name: str) -> None:
        self.port = 0
        self.authority = folder / "ca.pem"
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority, self._name = trustme.CA(), name
        self._authority.cert_pem.write_to_path(self.authority)
        self.renew()

    def renew(self, not_after: datetime | None = None) -> None:
        """From now on show another certificate, by default one that is valid."""
        self._authority.issue_cert(self._name, not_after=not_after).configure_cert(self.context)


@contextlib.contextmanager
def tls_proxy(port: int, folder: Path, *, name: str = "localhost") -> Iterator[TlsProxy]:
    proxy = TlsProxy(folder, name)
    with forwarding(lambda: port, proxy.context) as proxy.port:
        yield proxy


@contextlib.contextmanager
def tls_in_front_of(port: int, folder: Path, *, name: str = "localhost") -> Iterator[tuple[int, Path]]:
    """Gives the proxy's port and the file of the authority that signed its certificate for ``name``."""
    with tls_proxy(port, folder, name=name) as proxy:
        yield proxy.port, proxy.authority


@contextlib.contextmanager
def forwarding(target: Callable[[], int], context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A port whose connections go to the port that is the target when they are made."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        ended = threading.Event()
        thread = threading.Thread(target=_serve, args=(listener, context, target, ended))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join()


def _serve(
    listener: socket.socket,
    context: ssl.SSLContext | None,
    target: Callable[[], int],
    ended: threading.Event,
) -> None:
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            client, _ = listener.accept()
            threading.Thread(target=_forward, args=(client, context, target(), ended), daemon=True).start()


def _forward(
    client: socket.socket, context: ssl.SSLContext | None, port: int, ended: threading.Event
) -> None:
    with client, contextlib.suppress(OSError):
        client.settimeout(5)
        with (
            context.wrap_socket(client, server_side=True) if context else client as inside,
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
