"""The program under test, in a process of its own, as a user starts it; only its model is a stand-in."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.program import ROOT
from tests.support.reading import worker_pids


class Program:
    """Runs with a configuration file; what it says is kept."""

    def __init__(self, process: subprocess.Popen[bytes], told: Path, held: Path) -> None:
        self.process, self._told, self._held = process, told, held

    @property
    def pid(self) -> int:
        return self.process.pid

    def workers(self) -> list[int]:
        """Its decode workers."""
        return worker_pids(self.pid)

    def held(self) -> dict[str, float]:
        """What its allocators have given out, see :mod:`benchmarks.soak.watched`."""
        return dict(json.loads(self._held.read_text()))

    def log(self) -> list[str]:
        """Messages so far; what else stands on stderr as it is."""
        lines = self._told.read_text().splitlines()
        return [json.loads(line)["message"] if line.startswith("{") else line for line in lines]

    def stop(self) -> int:
        """As Ctrl-C does, by an operator; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def drops(self) -> dict[str, dict[str, int]]:
        """How many frames of each stream were dropped, by reason: from its summary."""
        found: dict[str, dict[str, int]] = {}
        for line in self.log():
            if told := re.fullmatch(r"(\S+): dropped (.+)", line):
                parts = (part.split(" ", 1) for part in told[2].split(", "))
                found[told[1]] = {reason: int(count) for count, reason in parts}
        return found


@contextmanager
def running(config: Path, told: Path) -> Iterator[Program]:
    """Started now, and killed at the end if it is still there; ``told`` gets what it says."""
    held = told.with_name("held.json")
    command = [sys.executable, "-m", "benchmarks.soak.watched", str(held), "run", "-c", str(config)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "REDIS_PASSWORD_FILE": ""}
    with (
        told.open("wb") as file,
        subprocess.Popen(
            [*command, "--log-json", "--no-progress"], cwd=ROOT, env=environment, stderr=file
        ) as process,
    ):
        try:
            yield Program(process, told, held)
        finally:
            process.kill()
