"""Cameras that fail once a minute, for half an hour: does anything pile up?

    python benchmarks/soak.py [--minutes 30] [--every 60]      (or: make soak MINUTES=30)

Four real RTSP cameras on two servers, results to NDJSON, Redis and overlay video, a model that takes 30 ms
for a picture: three times too slow, so that frames are dropped all the time and ages would grow if they
could. In turn a server is killed and comes back, a worker is killed, a server freezes, a worker is stopped, a
worker crashes, Redis is killed and comes back. Every few seconds another process, so that it is no part of
what it measures, notes memory, file descriptors, threads, processes, frame rings and the broker's memory.
Growth is the slope of a straight line through the second half of the run, at the moments when all cameras
were live. Writes benchmarks/results/soak.json.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import redis
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from streamseg.outputs import NdjsonOutput, VideoOutput  # noqa: E402
from streamseg.redis.publish import RedisOutput  # noqa: E402
from streamseg.runtime.pipeline import Pipeline  # noqa: E402
from streamseg.runtime.stats import StreamStats  # noqa: E402
from streamseg.sources import Source  # noqa: E402
from streamseg.types import FrameResult, StreamInfo  # noqa: E402
from tests.support.broker import RunningBroker, running_broker  # noqa: E402
from tests.support.media import write_clip  # noqa: E402
from tests.support.reading import worker_pids  # noqa: E402
from tests.support.servers import RtspServer, rtsp_server  # noqa: E402
from tests.support.synthetic import SyntheticModel  # noqa: E402

CAMERAS = 4
SAMPLE_EVERY = 2.0


def memory(pid: int) -> dict[str, float]:
    """MiB of a process: what is its own, and what it shares with others (frame rings)."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "rss_mib": int(fields["RssAnon"].split()[0]) / 1024,
        "shared_mib": int(fields["RssShmem"].split()[0]) / 1024,
    }


def sample(pid: int, broker: redis.Redis) -> dict[str, float]:
    """What the process ``pid``, its workers and the broker hold."""
    process = Path(f"/proc/{pid}")
    workers = worker_pids(pid)
    of_workers = []
    for worker in workers:
        with contextlib.suppress(OSError, KeyError):
            of_workers.append(memory(worker)["rss_mib"])
    used: Any = broker.info("memory")
    return {
        **{name: round(value, 2) for name, value in memory(pid).items()},
        "workers_rss_mib": round(sum(of_workers), 2),
        "fds": len(list((process / "fd").iterdir())),
        "threads": len(list((process / "task").iterdir())),
        "workers": len(workers),
        "rings": (process / "maps").read_text().count("memfd:streamseg-ring"),
        "broker_mib": round(used["used_memory"] / 2**20, 2),
    }


def watch(pid: int, broker: str, samples: Path) -> None:
    """Append a sample of ``pid`` to a file every few seconds, while it and the broker are there."""
    start = time.monotonic()
    client = redis.Redis.from_url(broker)
    while True:
        with contextlib.suppress(redis.RedisError, OSError):  # the broker is killed now and then
            line = {"minute": round((time.monotonic() - start) / 60, 3), **sample(pid, client)}
            with samples.open("a") as file:
                file.write(f"{json.dumps(line)}\n")
        time.sleep(SAMPLE_EVERY)


@contextlib.contextmanager
def watched(broker: str, samples: Path) -> Iterator[None]:
    """Another process takes samples of this one."""
    watcher = multiprocessing.get_context("spawn").Process(
        target=watch, args=(os.getpid(), broker, samples), daemon=True
    )
    watcher.start()
    try:
        yield
    finally:
        watcher.kill()
        watcher.join()


def faults(
    first: RtspServer, second: RtspServer, broker: RunningBroker
) -> list[tuple[str, Callable[[], None]]]:
    def kill_server() -> None:
        first.kill()
        time.sleep(3)
        first.start()

    def freeze_server() -> None:
        second.freeze()
        time.sleep(8)
        second.thaw()

    def to_a_worker(number: signal.Signals) -> None:
        os.kill(worker_pids(os.getpid())[0], number)

    def kill_broker() -> None:
        broker.kill()
        time.sleep(3)
        broker.start()

    return [
        ("a server is killed and comes back", kill_server),
        ("a worker is killed", lambda: to_a_worker(signal.SIGKILL)),
        ("a server freezes for 8 s", freeze_server),
        ("a worker is stopped", lambda: to_a_worker(signal.SIGSTOP)),
        ("a worker crashes", lambda: to_a_worker(signal.SIGSEGV)),
        ("Redis is killed and comes back", kill_broker),
    ]


def soak(folder: Path, minutes: float, every: float) -> dict[str, object]:
    media, out = folder / "media", folder / "out"
    media.mkdir()
    write_clip(media / "clip.mp4", frames=250, bframes=0, gop=25)
    notes = folder / "samples.ndjson"
    done: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(rtsp_server(media)) for _ in range(2))
        broker = stack.enter_context(running_broker(folder / "redis"))
        outputs = [
            NdjsonOutput(f"{out}/", several=True),
            RedisOutput(broker.url),
            # An open video grows with every frame; short parts show in half an hour what a day does.
            VideoOutput(f"{out}/", several=True, part_seconds=120),
        ]
        servers = [first, first, second, second]
        sources = [Source(id=f"cam{n}", url=s.url("clip.mp4"), live=True) for n, s in enumerate(servers)]
        ages = Ages(60 * minutes)
        model = SyntheticModel(per_frame=0.03, objects=True)
        pipeline = Pipeline(sources, model, outputs, observe=ages)
        with watched(broker.url, notes), pipeline:
            start = next_fault = time.monotonic()
            turns = itertools.cycle(faults(first, second, broker))
            while (now := time.monotonic()) < start + 60 * minutes:
                if now >= next_fault + every:
                    next_fault += every
                    name, fault = next(turns)
                    done[name] = done.get(name, 0) + 1
                    fault()
                time.sleep(0.5)
            # The last fault is to heal before the end.
            deadline = time.monotonic() + 60
            streams = pipeline.stats.streams
            while not all(s.state.value == "live" for s in streams.values()):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.1)
            states = {name: s.state.value for name, s in streams.items()}
            pipeline.stop()
            pipeline.join()
        pipeline.raise_first_error()
    summary = pipeline.stats
    samples = [json.loads(line) for line in notes.read_text().splitlines()]
    return {
        "minutes": minutes,
        "faults": done,
        "states_at_the_end": states,
        "reconnects": {name: s.reconnects for name, s in summary.streams.items()},
        "results": {name: s.results for name, s in summary.streams.items()},
        "dropped": {name: dict(s.dropped) for name, s in summary.streams.items()},
        "latency_ms": ages.report(),
        "frames_unaccounted_for": {
            name: ages.last_frame[name] + 1 - s.results - count_before_outputs(s)
            for name, s in summary.streams.items()
        },
        "errors": [str(error) for error in summary.errors],
        "growth_per_hour": growth(samples),
        "workers_left": worker_pids(os.getpid()),
        "samples": samples[:: max(1, len(samples) // 60)],
    }


def count_before_outputs(stream: StreamStats) -> int:
    """Frames dropped on their way to a result."""
    return sum(n for reason, n in stream.dropped.items() if not reason.startswith("by "))


class Ages:
    """How old results are when they are published, from decoding on; counted by the millisecond."""

    def __init__(self, seconds: float) -> None:
        """``seconds``: how long the run will be."""
        self.last_frame: dict[str, int] = {}
        self._middle = time.monotonic() + seconds / 2
        self._counts = np.zeros((2, 10_000), np.int64)

    def __call__(self, event: StreamInfo | FrameResult) -> None:
        if isinstance(event, FrameResult):
            self.last_frame[event.stream] = event.frame
            half = int(time.monotonic() > self._middle)
            self._counts[half, min(round(event.latency_ms), self._counts.shape[1] - 1)] += 1

    def report(self) -> dict[str, int]:
        """Milliseconds."""
        first, second = self._counts
        return {
            "p50_first_half": percentile(first, 0.5),
            "p50_second_half": percentile(second, 0.5),
            "p99": percentile(first + second, 0.99),
            "max": percentile(first + second, 1.0),
        }


def percentile(counts: NDArray[np.int64], part: float) -> int:
    """The smallest number that ``part`` of all do not exceed; ``counts``: how often 0, 1, ... was seen."""
    return int(np.searchsorted(np.cumsum(counts), part * counts.sum()))


def growth(samples: list[dict[str, float]]) -> dict[str, float]:
    """Slope per hour of each quantity, from the second half of the run."""
    half = [s for s in samples[len(samples) // 2 :] if s["workers"] == s["rings"] == CAMERAS]
    if len(half) < 3:
        return {}
    hours = [s["minute"] / 60 for s in half]
    names = [name for name in samples[0] if name != "minute"]
    return {name: round(float(np.polyfit(hours, [s[name] for s in half], 1)[0]), 2) for name in names}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=30.0)
    options.add_argument("--every", type=float, default=60.0, help="seconds between two faults")
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = {
            "machine": describe_machine(),
            **soak(Path(folder), chosen.minutes, chosen.every),
        }
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({key: value for key, value in report.items() if key != "samples"}, indent=2))


if __name__ == "__main__":
    main()
