"""``streamseg train`` in a process of its own, forked from one that has imported all it needs."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from streamseg.cli import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["streamseg.cli.data", "streamseg.inference", "streamseg.training.loop"])


class Program:
    """A run of the configuration ``train.yaml`` in a folder."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._stderr = folder / "stderr.txt"
        arguments = ["train", str(folder / "train.yaml"), *options]
        self._process = _CONTEXT.Process(target=_main, args=(arguments, self._stderr))
        self._process.start()

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def finish(self) -> tuple[int, str]:
        """Its exit code, negative if a signal ended it, and what it wrote to stderr."""
        self._process.join(100)
        assert self._process.exitcode is not None, "still running"
        return self._process.exitcode, self._stderr.read_text()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until ``condition`` holds, or it has ended."""
        while self._process.is_alive() and not condition():
            time.sleep(0.005)

    def spawned(self) -> list[int]:
        """The processes that it has spawned."""
        if self._process.exitcode is not None:
            return []
        tasks = Path(f"/proc/{self._process.pid}/task")
        pids = [int(pid) for path in tasks.glob("*/children") for pid in _read(path).split()]
        return [pid for pid in pids if b"spawn_main" in _read(Path(f"/proc/{pid}/cmdline"))]

    def handles_signals(self) -> bool:
        """Whether it has a handler for SIGTERM: the training loop has begun."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _read(path: Path) -> bytes:
    """A file of /proc; nothing if its thread or process has ended."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _main(arguments: list[str], stderr: Path) -> None:
    """What ``python -m streamseg`` does, its output in a file."""
    for stream, path in ((sys.stderr, stderr), (sys.stdout, Path(os.devnull))):
        with path.open("w") as file:
            os.dup2(file.fileno(), stream.fileno())
    sys.exit(main(arguments))
