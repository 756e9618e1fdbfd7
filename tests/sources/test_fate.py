"""What is said of a decode worker that came to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streamseg.sources import SourcePool, resolve_sources
from streamseg.sources.fate import describe, oom_kills
from streamseg.sources.worker_process import WorkerProcess
from tests.support.media import write_clip
from tests.support.reading import Listener, is_running, wait_until, worker_pids


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_signal_of_others_is_named(number: signal.Signals) -> None:
    process = WorkerProcess()
    os.kill(process.pid, number)
    wait_until(lambda: not is_running(process.pid))
    assert process.end() == f"was killed by {number.name}"


def test_what_we_kill_ourselves_is_not_blamed_on_a_signal() -> None:
    process = WorkerProcess()
    os.kill(process.pid, signal.SIGSTOP)
    assert process.end() == "did not exit after its connection had ended and was killed"


def test_a_worker_that_the_kernel_killed_for_memory() -> None:
    kernel = {"oom_before": 3, "oom_now": 4}
    assert describe(-9, by_us=None, **kernel).endswith("SIGKILL: the system ran out of memory")
    assert describe(-11, by_us=None, **kernel) == "was killed by SIGSEGV"
    assert describe(-9, by_us=None, oom_before=3, oom_now=3) == "was killed by SIGKILL"
    assert describe(None, by_us=None, **kernel) == "hangs in the system"


def test_the_kernel_is_asked_or_says_nothing(tmp_path: Path) -> None:
    assert oom_kills() >= 0
    assert oom_kills(tmp_path / "none") == 0
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 17\n")
    assert oom_kills(tmp_path / "vmstat") == 17


HUNGRY = """
import resource, sys
from streamseg.sources import worker
from streamseg.sources.decode import VideoReader
worker.MAX_MEMORY = 1 << 30
worker.VideoReader.selected = lambda self: [bytearray(8 << 30)]
worker.main(*sys.argv[1:])
"""


def test_a_worker_that_wants_more_memory_than_it_may_have_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hungry.py").write_text(HUNGRY)
    start = subprocess.Popen

    def hungry(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return start([sys.executable, str(tmp_path / "hungry.py"), *command[-2:]], **options)

    monkeypatch.setattr(subprocess, "Popen", hungry)
    listener = Listener()
    clip = write_clip(tmp_path / "clip.mp4")
    with SourcePool(resolve_sources([str(clip)]), emit=listener):
        listener.wait_for_end("clip")
    assert listener.error("clip").endswith("out of memory: a decode worker may take 4 GiB")
    assert worker_pids(os.getpid()) == []
