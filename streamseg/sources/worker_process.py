"""The process of a decode worker, as its parent sees it: started, told what to do, ended."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import deque

from streamseg.sources.fate import describe, oom_kills
from streamseg.sources.messages import Channel, FromParent, FromWorker, Stop, parent_channel

EXIT_WAIT = 0.5
"""Seconds for a process to exit after it closed its socket."""
REAP_WAIT = 0.1
"""The same after it was killed: the thread that waits serves all other cameras too."""


class WorkerProcess:
    """Starts a worker. Raises OSError when the system refuses one more process or socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel: Channel[FromWorker] = parent_channel(ours)
        self.stopping = False
        """Whether it was asked to exit."""
        self._unsent: deque[FromParent] = deque()
        self._killed: str | None = None
        """Why we killed it, if we did."""
        self._oom_before = oom_kills()
        with theirs:
            try:
                self._popen = _start(theirs.fileno())
            except OSError:
                ours.close()
                raise

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    @property
    def congested(self) -> bool:
        """Whether messages wait until the socket is writable."""
        return bool(self._unsent)

    def send(self, message: FromParent) -> None:
        """Send a message, or keep it for :meth:`flush` while the socket is full."""
        self._unsent.append(message)
        self.flush()

    def flush(self) -> None:
        """Send what was kept.

        A full socket says that the worker is busy or stopped, not that it is dead. A worker that has closed
        its end is killed, and the end of its messages will tell the receiver.
        """
        try:
            while self._unsent:
                self.channel.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()
            self._kill("closed its connection")

    def stop(self) -> None:
        """Ask the worker to exit, once."""
        if not self.stopping:
            self.stopping = True
            self.send(Stop())

    def end(self, *, kill: bool = False) -> str:
        """Make sure that the process is gone, by force if it does not exit; returns how it ended.

        For example "was killed by SIGSEGV". With ``kill`` it is not waited for first.
        """
        self.channel.close()
        status = None if kill else self._wait(EXIT_WAIT)
        if status is None:
            self._kill("was asked to end" if kill else "did not exit after its connection had ended")
            status = self._wait(REAP_WAIT)
        return describe(status, by_us=self._killed, oom_before=self._oom_before, oom_now=oom_kills())

    def _kill(self, why: str) -> None:
        """Kill it, unless it is dead already."""
        if self._popen.poll() is None:
            self._killed = self._killed or why
            self._popen.kill()

    def _wait(self, seconds: float) -> int | None:
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


def _start(fd: int) -> subprocess.Popen[bytes]:
    """Start a worker on its end of the socket.

    Not with multiprocessing, which runs the user's main module again in every child. URLs go over
    the socket only: arguments are there for everyone on the machine to read, passwords included.
    """
    search_path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "streamseg.sources.worker", str(fd), str(os.getpid())],
        pass_fds=[fd],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": search_path},
    )
