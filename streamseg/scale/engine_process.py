"""One engine in a process of its own, as its owner sees it."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType

from streamseg.config import RunConfig
from streamseg.scale.control import (
    Begin,
    Channel,
    Finish,
    FromEngine,
    Stop,
    ToEngine,
    Wanted,
    WantedStream,
    owner_channel,
)
from streamseg.sources.fate import describe, oom_kills

_EXIT_SECONDS = 2.0
"""For a process to exit after it closed its socket."""
_END_SECONDS = 12.0
"""An engine that is told to stop does so within 10 s."""


class EngineProcess:
    """The ordinary program as a child, told what to read while it runs.

        with EngineProcess(config, "cuda:0") as engine:
            engine.set_streams([WantedStream({"id": "door", "url": "rtsp://..."})])
            for report in engine.reports():
                ...
        print(engine.fate)

    Any thread may call its methods, but one alone iterates over :meth:`reports`. None of them waits for the
    engine, but for :meth:`reports` and leaving the context, which kills it.
    """

    def __init__(
        self,
        config: RunConfig,
        device: str,
        *,
        several: bool = True,
        threads: int | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            config: Of the run: all but its streams and its device counts.
            device: Where the engine's network runs: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            several: Whether the outputs are for more than one stream.
            threads: Of the network on a CPU; None leaves it to torch.
            arguments: Options of ``streamseg engine``: ``--log-level`` and ``--log-json``.
        """
        model = config.model.model_copy(update={"device": device})
        own = config.model_copy(update={"streams": (), "model": model})
        self.device = device
        self._begin = Begin(own.model_dump(mode="json"), several)
        self._threads, self._arguments = threads, arguments
        self._channel: Channel[FromEngine]
        self._process: subprocess.Popen[bytes]
        self._outbox: queue.SimpleQueue[ToEngine | None] = queue.SimpleQueue()
        self._killed: str | None = None
        self._oom_before = 0

    def start(self) -> None:
        """Start the process; its first report is Ready, or Failed. Raises OSError."""
        ours, theirs = socket.socketpair()
        self._oom_before = oom_kills()
        with theirs:
            self._process = self._spawn(theirs.fileno())
        self._channel = owner_channel(ours)
        threading.Thread(target=self._send_all, name="engine-orders", daemon=True).start()
        self._outbox.put(self._begin)

    def __enter__(self) -> EngineProcess:
        """Start the process."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def set_streams(self, streams: Sequence[WantedStream]) -> None:
        """Read exactly these from now on; may be called before the engine is ready.

        Streams that are new begin, those that are missing end, cameras whose configuration has changed
        go on with the new one in their next epoch.
        """
        self._outbox.put(Wanted(list(streams)))

    def finish(self) -> None:
        """Let it end by itself when its streams are over."""
        self._outbox.put(Finish())

    def stop(self) -> None:
        """Let it end its streams, finish their files and exit, all within 10 s; before Ready, kill it."""
        self._outbox.put(Stop())

    def end(self, ended: threading.Event) -> None:
        """Let it finish what is written and exit, by force after a while; ``ended``: all was read."""
        self.stop()
        if not ended.wait(_END_SECONDS):
            self.kill()

    def kill(self, why: str = "was asked to end") -> None:
        """End it at once, as SIGKILL does; :meth:`reports` comes to its end."""
        if self._process.poll() is None:
            self._killed = self._killed or why
            self._process.kill()

    def reports(self) -> Iterator[FromEngine]:
        """What it tells, until it is gone."""
        yield from self._channel
        self._reap()

    @property
    def fate(self) -> str:
        """How it ended, e.g. "was killed by SIGSEGV"; while it runs, that it hangs."""
        return describe(
            self._process.poll(), by_us=self._killed, oom_before=self._oom_before, oom_now=oom_kills()
        )

    def close(self) -> None:
        """Make sure that the process is gone, and give back what it took."""
        self.kill()
        self._reap()
        self._outbox.put(None)
        self._channel.close()

    def _reap(self) -> None:
        """Wait for the process, which has closed its socket; by force if it does not exit."""
        try:
            self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill("did not exit after its connection had ended")
            self._process.wait()

    def _send_all(self) -> None:
        """In a thread of its own: an engine that hangs reads nothing, and must not hold up its owner."""
        while (message := self._outbox.get()) is not None:
            self._channel.send(message)

    def _spawn(self, fd: int) -> subprocess.Popen[bytes]:
        """The configuration goes over the socket: arguments are there for everyone to read.

        In a session of its own, Ctrl-C reaches the owner alone, who says what becomes of it.
        """
        folders = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        environment = {**os.environ, "PYTHONPATH": folders}
        if self._threads is not None:
            environment.setdefault("OMP_NUM_THREADS", str(self._threads))
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "streamseg", "engine", *self._arguments, str(fd)],
            pass_fds=[fd],
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
