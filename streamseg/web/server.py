"""A web server in a thread of its own."""

import asyncio
import errno
import logging
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

from aiohttp import web

from streamseg.errors import UsageError

logger = logging.getLogger(__name__)

_STOP_SECONDS = 2.0
"""How long open connections may take to end."""


class WebServer:
    """Serves an application from entering until leaving."""

    def __init__(self, make_app: Callable[[], web.Application], *, host: str, port: int, name: str) -> None:
        """``make_app`` is called in the server's thread; ``name``: the section of the configuration."""
        self._make_app, self._host, self._port, self._name = make_app, host, port, name
        self._runner: web.AppRunner | None = None
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread

    @property
    def url(self) -> str:
        """Where it is found; a port of 0 has become the one that was free."""
        assert self._runner is not None
        port = self._runner.addresses[0][1]
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self._host, self._host)
        return f"http://{host}:{port}/"

    def __enter__(self) -> "WebServer":
        """Listen. Raises UsageError if the address cannot be had."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"web-{self._name}", daemon=True)
        self._thread.start()
        try:
            self._do(self._start())
        except OSError as error:
            self._end()
            raise UsageError(_refusal(self._name, self._host, self._port, error)) from error
        logger.info("%s: %s", self._name, self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _do(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _start(self) -> None:
        self._runner = web.AppRunner(self._make_app(), access_log=None, shutdown_timeout=_STOP_SECONDS)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    def _end(self) -> None:
        if self._runner is not None:
            self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _refusal(section: str, host: str, port: int, error: OSError) -> str:
    reason = {
        errno.EADDRINUSE: "is in use by another program",
        errno.EACCES: "may not be listened on by this user",
        errno.EADDRNOTAVAIL: "is not an address of this machine",
    }.get(error.errno or 0, f"cannot be listened on ({error.strerror})")
    return f"{section}: {host}:{port} {reason}; choose another host or port"
