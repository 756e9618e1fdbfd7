"""Many cameras at once: who is served, how fast, and whether they share fairly.

    python benchmarks/cameras.py [--seconds 30] [--asynchronous]

Real RTSP cameras (320x240) and a model that only sleeps, so that the numbers are the pipeline's own:
10 ms + 3 ms for each picture of a batch, or as much longer as makes it too slow. Latency is from decoding
to publication. Writes benchmarks/results/cameras.json. No part of the package: it needs the tests' servers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from streamseg.runtime.pipeline import Pipeline  # noqa: E402
from streamseg.sources import Source  # noqa: E402
from streamseg.types import FrameResult, StreamInfo  # noqa: E402
from tests.support.media import write_clip  # noqa: E402
from tests.support.servers import RtspServer, rtsp_server  # noqa: E402
from tests.support.synthetic import SyntheticModel  # noqa: E402

CLIENTS = 4
"""Cameras of one server process: it plays to as many as the machine has cores, plus four."""


@dataclass(frozen=True)
class Case:
    """Cameras by their frame rate, and the model's seconds: for a batch and for each picture in it."""

    name: str
    cameras: Sequence[int]
    base: float = 0.010
    per_frame: float = 0.003


CASES = (
    Case("4 x 25 fps", [25] * 4),
    Case("8 x 25 fps", [25] * 8),
    Case("3 x 25 fps and one of 2 fps", [25, 25, 25, 2]),
    # 8 pictures take 100 ms: 80 frames/s for 200 offered.
    Case("8 x 25 fps, model of 80 frames/s", [25] * 8, base=0.0, per_frame=0.0125),
    Case("1 x 25 fps, model three times too slow", [25], base=0.12, per_frame=0.0),
)


class Recorder:
    """Notes when each result was published and how old it was."""

    def __init__(self) -> None:
        self.results: dict[str, list[tuple[float, float]]] = {}

    def __call__(self, event: StreamInfo | FrameResult) -> None:
        if isinstance(event, FrameResult):
            self.results.setdefault(event.stream, []).append((time.monotonic(), event.latency_ms))


def measure(case: Case, folder: Path, seconds: float, *, asynchronous: bool) -> dict[str, object]:
    recorder = Recorder()
    model = SyntheticModel(case.base, case.per_frame, asynchronous=asynchronous)
    with contextlib.ExitStack() as stack:
        servers: list[RtspServer] = []
        sources = []
        for number, fps in enumerate(case.cameras):
            if number % CLIENTS == 0:
                servers.append(stack.enter_context(rtsp_server(folder)))
            sources.append(Source(id=f"cam{number}", url=servers[-1].url(f"{fps}.mp4"), live=True))
        pipeline = Pipeline(sources, model, [], max_batch=8, max_wait=0.02, observe=recorder)
        with pipeline:
            while len(recorder.results) < len(sources):
                time.sleep(0.1)
            time.sleep(2.0)
            before = {name: dict(s.dropped) for name, s in pipeline.stats.streams.items()}
            model.batches.clear()
            start = time.monotonic()
            time.sleep(seconds)
            end = time.monotonic()
            dropped = {
                name: {reason: n - before[name].get(reason, 0) for reason, n in s.dropped.items()}
                for name, s in pipeline.stats.streams.items()
            }
            batch = float(np.mean(model.batches))
            pipeline.stop()
            pipeline.join()
    served = {
        name: [latency for when, latency in recorder.results[name] if start <= when < end]
        for name in sorted(recorder.results)
    }
    rates = {name: round(len(latencies) / (end - start), 2) for name, latencies in served.items()}
    fast = [x for (name, xs), fps in zip(served.items(), case.cameras, strict=True) if fps == 25 for x in xs]
    return {
        "offered_fps": sum(case.cameras),
        "served_fps": round(sum(rates.values()), 1),
        "served_fps_of_each": rates,
        "latency_ms_p50": round(float(np.percentile(fast, 50)), 1),
        "latency_ms_p99": round(float(np.percentile(fast, 99)), 1),
        "latency_ms_max": round(max(fast), 1),
        "mean_batch": round(batch, 2),
        "dropped": dropped,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=30.0)
    options.add_argument("--asynchronous", action="store_true", help="only the model that works like CUDA")
    options.add_argument("--case", type=int, action="append", help="number of a case, from 0")
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "cameras.json")
    chosen = options.parse_args()
    cases = [CASES[n] for n in chosen.case] if chosen.case else CASES
    kinds = [True] if chosen.asynchronous else [False, True]
    report: dict[str, object] = {"machine": describe_machine(), "seconds": chosen.seconds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for fps in (2, 25):
            write_clip(folder / f"{fps}.mp4", frames=10 * fps, fps=fps, bframes=0, gop=fps)
        for asynchronous in kinds:
            kind = "as CUDA works" if asynchronous else "as a CPU works"
            report[kind] = {}
            for case in cases:
                result = measure(case, folder, chosen.seconds, asynchronous=asynchronous)
                report[kind][case.name] = result  # type: ignore[index]
                print(kind, case.name, json.dumps(result), flush=True)
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
