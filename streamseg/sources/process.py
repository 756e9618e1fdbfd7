"""A decode worker as its parent sees it: a process and a socket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

from streamseg.sources.messages import Channel, FromParent, FromWorker, Stop, parent_channel

GO_WAIT = 0.5
"""Seconds for a process to vanish after it hung up."""
REAP_WAIT = 0.1
"""The same after it was killed: the thread that waits serves all other cameras too."""


class WorkerProcess:
    """Starts a worker. Raises OSError when the system refuses one more process or socket."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel: Channel[FromWorker] = parent_channel(ours)
        self._asked = self._killed = False
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
    def stopping(self) -> bool:
        """Whether it was asked to go."""
        return self._asked

    def stop(self) -> None:
        """Ask the worker to go, once."""
        if not self._asked:
            self._asked = True
            self.send(Stop())

    def send(self, message: FromParent) -> None:
        """Send a message; a worker that does not listen any more is killed, and its socket will tell."""
        try:
            self.channel.send(message)
        except OSError:
            self.kill()

    def end(self) -> str:
        """Make sure that the process is gone; returns how it went, as "was killed by SIGSEGV"."""
        self.channel.close()
        try:
            status = self._popen.wait(REAP_WAIT if self._killed else GO_WAIT)
        except subprocess.TimeoutExpired:
            status = self._kill()
        if status < 0:
            return f"was killed by {signal.Signals(-status).name}"
        return f"exited with status {status}"

    def kill(self) -> None:
        """End the process at once; :meth:`end` takes the remains away."""
        self._killed = True
        self._popen.kill()

    def _kill(self) -> int:
        self._popen.kill()
        try:
            return self._popen.wait(REAP_WAIT)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL  # it hangs in the kernel (a dead network drive) and goes when that lets go


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
