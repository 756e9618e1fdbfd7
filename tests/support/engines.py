"""The program with several engines, all on the stand-in model."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.program import ROOT
from tests.support.reading import children, command_line

STAND_IN = ROOT / "tests" / "support" / "stand_in"
"""A folder for PYTHONPATH: every process then has the stand-in model."""


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{STAND_IN}{os.pathsep}{ROOT}"}


def command(*arguments: str | Path, devices: str = "cpu,cpu", seconds: float = 0.0) -> list[str]:
    """``seconds`` for each picture."""
    options = ["--device", devices, "--weights", str(seconds), "--no-progress"]
    return [sys.executable, str(ROOT / "run_stream.py"), *map(str, arguments), *options]


@contextmanager
def engines(
    *arguments: str | Path, devices: str = "cpu,cpu", seconds: float = 0.0
) -> Iterator[subprocess.Popen[str]]:
    """The running program; it is killed if the test ends before it."""
    with subprocess.Popen(
        command(*arguments, devices=devices, seconds=seconds),
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def engine_pids(parent: int) -> list[int]:
    """The engine processes of a running program, the oldest first."""
    return sorted(pid for pid in children(parent) if b"\0engine\0" in command_line(pid))
