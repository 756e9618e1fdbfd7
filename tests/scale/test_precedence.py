"""The niceness of processes that Ray starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.program import ROOT

_LIKE_A_RAY_WORKER = """
import logging, os, sys, threading
from streamseg.scale.precedence import as_its_parent
logging.basicConfig(format="%(message)s")
os.nice(3)
waiting = threading.Event()
thread = threading.Thread(target=waiting.wait, daemon=True)
thread.start()
if sys.argv[1] == "nobody":
    os.setuid(65534)
as_its_parent()
print(os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PROCESS, thread.native_id))
waiting.set()
"""


def said(user: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", _LIKE_A_RAY_WORKER, user],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout, done.stderr


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may lower a niceness, or become nobody")


@needs_root
def test_all_threads_get_the_niceness_of_the_parent() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert said("root") == (f"{ours} {ours}\n", "")


@needs_root
def test_who_may_not_lower_it_is_told_what_to_do() -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    nicer = min(19, ours + 3)
    out, complaint = said("nobody")
    assert out == f"{nicer} {nicer}\n"
    assert f"this process has a niceness of {nicer} and may not change it" in complaint
    assert complaint.endswith(f"start Ray with RAY_worker_niceness={ours}\n")
