"""What the steps between frames and results cost, with a model that only takes time.

    python benchmarks/steps.py [--seconds 5]

* Recorded and live streams on a model of 20 ms on the device and 20 ms on the host for a batch of 8: results
  per second of each, and their ratio. A live run must not leave the device idle while the host works.
* The host's part: frames per second of an engine whose device could do 1,000, and of one whose device takes
  no time, with 10 objects a frame at 1080p, up to results with run lengths, for 1 and 2 finishing threads;
  once as on CUDA (run edges come from the device), once as on a CPU (soft masks are enlarged on the host),
  and how much longer torch takes on a CPU to make the edges than numpy takes to enlarge and encode.
* Batching: microseconds that a frame costs, from putting it to taking it, for 1, 10 and 100 cameras.

Writes benchmarks/results/steps.json. No part of the package: it needs the tests' stand-ins.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from streamseg.inference.finish import HostDetections, SoftMasks, make_instances  # noqa: E402
from streamseg.masks.device_runs import run_edges, spans  # noqa: E402
from streamseg.masks.runs import MaskRuns  # noqa: E402
from streamseg.masks.upsample import Geometry  # noqa: E402
from streamseg.results.frame_result import frame_result  # noqa: E402
from streamseg.runtime.batching import Batcher  # noqa: E402
from streamseg.runtime.engine import Engine  # noqa: E402
from streamseg.runtime.shutdown import ShutdownBudget  # noqa: E402
from streamseg.types import Frame, FramePolicy, Instances  # noqa: E402
from tests.support.frames import make_frame, make_info  # noqa: E402
from tests.support.synthetic import SyntheticModel  # noqa: E402

BATCH = 8
DEVICE = HOST = 0.02
"""Seconds for a batch."""
STREAMS = 8
FAST, FASTEST = 1000, 100_000
"""Frames a second that devices could do."""
OBJECTS = 10
FULL_HD = Geometry(source=(1080, 1920), resized=(450, 800), canvas=(480, 800))
OFFERED = 100
"""Frames a second of each stream: twice what the device can take."""


def results_per_second(policy: FramePolicy, seconds: float) -> float:
    """Of streams that offer more than the device can take."""
    delivered: list[float] = []
    model = SyntheticModel(DEVICE, host=HOST / BATCH, asynchronous=True)
    batcher = Batcher(max_batch=BATCH, max_wait=0.02, group=lambda _: 0, on_drop=lambda _: None)
    engine = Engine(
        model,
        batcher,
        ShutdownBudget(),
        max_batch=BATCH,
        deliver=lambda *_: delivered.append(time.monotonic()),
        give_up=lambda _: None,
        on_breakdown=lambda: None,
        threads=1,  # the host's work takes its full time, as on one core
    )
    names = [f"s{k}" for k in range(STREAMS)]
    for name in names:
        batcher.open(make_info(name, policy=policy))
    engine.start()
    stop = threading.Event()

    def offer() -> None:
        index = 0
        while not stop.wait(1 / OFFERED):
            if policy is FramePolicy.EVERY_FRAME and len(batcher) > 2 * BATCH:
                continue  # as a decoder waits for a slot of its ring
            for name in names:
                batcher.put(make_frame(name, index))
            index += 1

    thread = threading.Thread(target=offer)
    thread.start()
    time.sleep(1.0)
    start = time.monotonic()
    time.sleep(seconds)
    end = time.monotonic()
    stop.set()
    thread.join()
    for name in names:
        batcher.end(name)
    batcher.close()
    engine.join()
    return sum(start <= moment < end for moment in delivered) / (end - start)


class FinishedByHost(SyntheticModel):
    """Takes no host time of its own: the host finishes what a real device would have left."""

    def __init__(self, found: HostDetections, sizes: Geometry, *, rate: int) -> None:
        super().__init__(BATCH / rate, asynchronous=True)
        self._found, self._sizes = found, sizes

    def finish(self, _ticket: object, _k: int) -> Instances:
        return make_instances(self._found, self._sizes, classes=("object",))


def frames_per_second(found: HostDetections, seconds: float, *, rate: int, threads: int) -> float:
    """Results with run lengths of several recorded streams."""
    delivered: list[float] = []

    def deliver(frame: Frame, instances: Instances) -> None:
        frame_result(frame, instances, model="simulated", published_at=time.monotonic())
        delivered.append(time.monotonic())

    batcher = Batcher(max_batch=BATCH, max_wait=0.02, group=lambda _: 0, on_drop=lambda _: None)
    engine = Engine(
        FinishedByHost(found, FULL_HD, rate=rate),
        batcher,
        ShutdownBudget(),
        max_batch=BATCH,
        deliver=deliver,
        give_up=lambda _: None,
        on_breakdown=lambda: None,
        threads=threads,
    )
    names = [f"s{k}" for k in range(STREAMS)]
    for name in names:
        batcher.open(make_info(name, policy=FramePolicy.EVERY_FRAME))
    height, width = FULL_HD.source
    frames = [make_frame(name, 0, width=width, height=height) for name in names]
    engine.start()
    began = time.monotonic()
    while time.monotonic() - began < 1.0 + seconds:
        if len(batcher) < 4 * BATCH:
            for frame in frames:
                batcher.put(frame)
        else:
            time.sleep(0.0005)
    for name in names:
        batcher.end(name)
    batcher.close()
    engine.join()
    return sum(began + 1.0 <= moment < began + 1.0 + seconds for moment in delivered) / seconds


def objects() -> torch.Tensor:
    """(10, h, w) soft masks: ellipses of 100 to 400 pixels of a 1080p frame, with soft edges."""
    rng = np.random.default_rng(0)
    height, width = (side // 4 for side in FULL_HD.canvas)
    y, x = np.mgrid[:height, :width]
    masks = []
    for _ in range(OBJECTS):
        middle, radii = rng.uniform((20, 30), (height - 20, width - 30)), rng.uniform(8, 33, 2)
        far = np.hypot((y - middle[0]) / radii[0], (x - middle[1]) / radii[1])
        masks.append(1 / (1 + np.exp(8 * (far - 1))))
    return torch.from_numpy(np.stack(masks).astype(np.float32))


def host_part(seconds: float) -> dict[str, object]:
    soft, classes = objects(), np.zeros(OBJECTS, np.int64)
    scores = np.full(OBJECTS, 0.9, np.float32)

    def edges() -> MaskRuns:
        reach = spans(soft, 0.5).numpy()
        return MaskRuns(*FULL_HD.source, *run_edges(soft, reach, [FULL_HD] * OBJECTS, threshold=0.5))

    ways = {
        "run edges from the device": HostDetections(classes, scores, edges()),
        "soft masks from the device": HostDetections(classes, scores, SoftMasks(soft.numpy(), 0.5)),
    }
    on_host = partial(make_instances, ways["soft masks from the device"], FULL_HD, classes=("object",))
    times: dict[object, list[float]] = {edges: [], on_host: []}
    for _ in range(20):
        for work, taken in times.items():
            start = time.process_time()
            work()
            taken.append(time.process_time() - start)
    by_torch, by_numpy = (statistics.median(taken) for taken in times.values())
    report: dict[str, object] = {
        f"{name}, device of {rate} frames per second": {
            f"{threads} finishing threads": round(
                frames_per_second(found, seconds, rate=rate, threads=threads), 1
            )
            for threads in (1, 2)
        }
        for name, found in ways.items()
        for rate in (FAST, FASTEST)
    }
    return report | {"torch on a CPU / numpy, CPU time": round(by_torch / by_numpy, 2)}


def microseconds_a_frame(streams: int, rounds: int = 200) -> float:
    """CPU time of putting a frame of each stream and taking them all, in batches of 8."""
    batcher = Batcher(max_batch=BATCH, max_wait=0.0, group=lambda _: 0, on_drop=lambda _: None)
    names = [f"s{k}" for k in range(streams)]
    for name in names:
        batcher.open(make_info(name, policy=FramePolicy.NEWEST_FRAME))
    frames = [[make_frame(name, index) for name in names] for index in range(rounds)]
    spent = 0.0
    for batch in frames:
        began = time.process_time()
        for frame in batch:
            batcher.put(frame)
        while len(batcher):
            batcher.next()
        spent += time.process_time() - began
    return 1e6 * spent / (rounds * streams)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=5.0)
    chosen = options.parse_args()
    recorded, live = (results_per_second(policy, chosen.seconds) for policy in FramePolicy)
    report = {
        "machine": describe_machine(),
        "results per second": {
            "device alone": BATCH / DEVICE,
            "recorded": round(recorded, 1),
            "live": round(live, 1),
            "live / recorded": round(live / recorded, 3),
        },
        f"frames per second, {OBJECTS} objects at 1080p": host_part(chosen.seconds),
        "batching, microseconds a frame": {
            f"{streams} cameras": round(microseconds_a_frame(streams), 1) for streams in (1, 10, 100)
        },
    }
    (ROOT / "benchmarks" / "results" / "steps.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
