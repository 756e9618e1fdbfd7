"""What the program holds: memory, descriptors, threads, processes."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.soak.program import Program

SAMPLE_EVERY = 2.0
Sample = dict[str, float]


def memory(pid: int) -> dict[str, float]:
    """MiB of a process: what is its own, and what it shares with others (frame rings)."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "rss_mib": int(fields["RssAnon"].split()[0]) / 1024,
        "shared_mib": int(fields["RssShmem"].split()[0]) / 1024,
    }


def sample(program: Program) -> dict[str, float]:
    """What the program and its workers hold."""
    process = Path(f"/proc/{program.pid}")
    workers = program.workers()
    of_workers = []
    for worker in workers:
        with contextlib.suppress(OSError, KeyError):  # it may end just now
            of_workers.append(memory(worker)["rss_mib"])
    return {
        **{name: round(value, 2) for name, value in memory(program.pid).items()},
        **program.held(),
        "workers_rss_mib": round(sum(of_workers), 2),
        "fds": len(list((process / "fd").iterdir())),
        "threads": len(list((process / "task").iterdir())),
        "workers": len(workers),
        "rings": (process / "maps").read_text().count("memfd:streamseg-ring"),
    }


class Samples:
    """Taken every few seconds in a thread; those of peace count for growth."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.all: list[Sample] = []
        self.well = threading.Event()
        """Set while nothing is wrong: backlogs that grow during an outage are no leak."""
        self._ended = threading.Event()
        self._began = time.monotonic()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_EVERY):
            minute = round((time.monotonic() - self._began) / 60, 3)
            with contextlib.suppress(OSError, KeyError):
                taken = sample(self._program)
                self.all.append({"minute": minute, "well": float(self.well.is_set()), **taken})

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def growth(self) -> dict[str, float]:
        """Slope per hour of each quantity: a straight line through the second half of the run."""
        half = [s for s in self.all[len(self.all) // 2 :] if s["well"]]
        if len(half) < 3:
            return {}
        hours = [s["minute"] / 60 for s in half]
        names = [name for name in half[0] if name not in {"minute", "well"}]
        return {name: round(float(np.polyfit(hours, [s[name] for s in half], 1)[0]), 2) for name in names}

    def quarters(self) -> dict[str, list[float]]:
        """Medians of each quarter of the run: resident memory, and what the allocators have given out."""
        well = [s for s in self.all if s["well"]]
        return {
            name: [
                round(float(np.median(part)), 2)
                for part in np.array_split(np.array([s[name] for s in well]), 4)
                if len(part)
            ]
            for name in ("rss_mib", "python_blocks", "malloc_used_mib", "malloc_free_mib")
        }
