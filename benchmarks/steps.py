"""What the steps between frames and results cost, with a model that only takes time.

    python benchmarks/steps.py [--seconds 5]

* Recorded and live streams on a model of 20 ms on the device and 20 ms on the host for a batch of 8: results
  per second of each, and their ratio. A live run must not leave the device idle while the host works.
* Batching: microseconds that a frame costs, from putting it to taking it, for 1, 10 and 100 cameras.

Writes benchmarks/results/steps.json. No part of the package: it needs the tests' stand-ins.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from machine import describe_machine  # noqa: E402

from streamseg.runtime.batching import Batcher  # noqa: E402
from streamseg.runtime.engine import Engine  # noqa: E402
from streamseg.runtime.shutdown import ShutdownBudget  # noqa: E402
from streamseg.types import FramePolicy  # noqa: E402
from tests.support.frames import make_frame, make_info  # noqa: E402
from tests.support.synthetic import SyntheticModel  # noqa: E402

BATCH = 8
DEVICE = HOST = 0.02
"""Seconds for a batch."""
STREAMS = 8
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
        "batching, microseconds a frame": {
            f"{streams} cameras": round(microseconds_a_frame(streams), 1) for streams in (1, 10, 100)
        },
    }
    (ROOT / "benchmarks" / "results" / "steps.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
