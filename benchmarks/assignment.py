"""Many cameras on many workers, simulated: how even, what moves at failures and joins, what it costs.

    python benchmarks/assignment.py [--cameras 10000] [--workers 400] [--rounds 100]

Workers are of three kinds, whose capacities are 1 : 2 : 4. Each failure and each join is a step of its own,
after which the controller assigns anew. "others" are cameras that move although their worker is still
there (at a join: those that move to anywhere but the new one). Then the controller's cost: an assignment
from nothing, one after a failure, one in which nothing has changed; and one report of every worker, which is
what a second costs while nothing happens. Writes benchmarks/results/assignment.json.
"""

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from machine import describe_machine

from streamseg.scale.assignment import SLACK, assign
from streamseg.scale.roster import Report, Roster

RESULTS = Path(__file__).resolve().parent / "results"
Owners = Mapping[str, str]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cameras", type=int, default=10_000)
    options.add_argument("--workers", type=int, default=400)
    options.add_argument("--rounds", type=int, default=100)
    chosen = options.parse_args()
    cameras = [f"camera-{k}" for k in range(chosen.cameras)]
    workers = {f"worker-{k}": float((1, 2, 4)[k % 3]) for k in range(chosen.workers)}
    owners = assign(cameras, workers)
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "cameras": len(cameras),
        "workers": len(workers),
        "slack": SLACK,
        "load_as_part_of_the_share": loads(owners, workers),
        "failures_in_a_row": failures(cameras, dict(workers), dict(owners), chosen.rounds),
        "joins_in_a_row": joins(cameras, dict(workers), dict(owners), chosen.rounds),
        "a_tenth_of_the_workers_fails_at_once": many_fail(cameras, workers, owners),
        "seconds_of_the_controller": costs(cameras, workers, owners),
    }
    text = json.dumps(report, indent=2)
    (RESULTS / "assignment.json").write_text(text + "\n")
    print(text)


def loads(owners: Owners, workers: Mapping[str, float]) -> dict[str, float]:
    unit = len(owners) / sum(workers.values())
    counts = Counter(owners.values())
    parts = sorted(counts[worker] / (capacity * unit) for worker, capacity in workers.items())
    return {
        "least": round(parts[0], 3),
        "median": round(statistics.median(parts), 3),
        "most": round(parts[-1], 3),
    }


def failures(
    cameras: list[str], workers: dict[str, float], owners: Owners, rounds: int
) -> dict[str, float | dict[str, float]]:
    chance, own, others = random.Random(1), [], []
    for _ in range(rounds):
        failed = chance.choice(sorted(workers))
        del workers[failed]
        after = assign(cameras, workers, owners)
        own.append(sum(1 for worker in owners.values() if worker == failed))
        others.append(sum(1 for c in cameras if after[c] != owners[c] and owners[c] != failed))
        owners = after
    return {
        "failures": rounds,
        "moved_of_the_failed_worker_mean": round(statistics.mean(own), 2),
        "moved_others_mean": round(statistics.mean(others), 2),
        "moved_others_most": max(others),
        "moved_others_most_percent_of_all": round(100 * max(others) / len(cameras), 3),
        "load_as_part_of_the_share_afterwards": loads(owners, workers),
    }


def joins(
    cameras: list[str], workers: dict[str, float], owners: Owners, rounds: int
) -> dict[str, float | dict[str, float]]:
    parts, others = [], []
    for k in range(rounds):
        capacity = float((1, 2, 4)[k % 3])
        workers[f"new-{k}"] = capacity
        after = assign(cameras, workers, owners)
        share = len(cameras) * capacity / sum(workers.values())
        taken = sum(1 for worker in after.values() if worker == f"new-{k}")
        parts.append(taken / share)
        others.append(sum(1 for c in cameras if after[c] != owners[c]) - taken)
        owners = after
    return {
        "joins": rounds,
        "taken_as_part_of_the_share_mean": round(statistics.mean(parts), 3),
        "moved_others_mean": round(statistics.mean(others), 2),
        "moved_others_most": max(others),
        "load_as_part_of_the_share_afterwards": loads(owners, workers),
    }


def many_fail(cameras: list[str], workers: Mapping[str, float], owners: Owners) -> dict[str, int]:
    failed = set(random.Random(2).sample(sorted(workers), len(workers) // 10))
    after = assign(cameras, {w: c for w, c in workers.items() if w not in failed}, owners)
    return {
        "moved_of_failed_workers": sum(1 for worker in owners.values() if worker in failed),
        "moved_others": sum(1 for c in cameras if after[c] != owners[c] and owners[c] not in failed),
    }


def costs(cameras: list[str], workers: Mapping[str, float], owners: Owners) -> dict[str, float]:
    fewer = {worker: capacity for worker, capacity in workers.items() if worker != "worker-7"}
    return {
        "from_nothing": seconds(lambda: assign(cameras, workers)),
        "after_a_failure": seconds(lambda: assign(cameras, fewer, owners)),
        "nothing_has_changed": seconds(lambda: assign(cameras, workers, owners)),
        "a_report_of_every_worker": reports(workers, owners),
    }


def reports(workers: Mapping[str, float], owners: Owners) -> float:
    held: dict[str, dict[str, int]] = {worker: {} for worker in workers}
    for camera, worker in owners.items():
        held[worker][camera] = 0
    roster = Roster(workers, clock=lambda: 0.0)  # as a controller that begins anew: it finds them at work
    roster.want(owners, guarded=True)

    def report_all() -> None:
        for worker, capacity in workers.items():
            assert (
                roster.renew(Report(worker, capacity=capacity, held=held[worker])).keys()
                == held[worker].keys()
            )

    report_all()
    return seconds(report_all)


def seconds(action: Callable[[], object]) -> float:
    spent = []
    for _ in range(7):
        began = time.process_time()
        action()
        spent.append(time.process_time() - began)
    return round(statistics.median(spent), 4)


if __name__ == "__main__":
    main()
