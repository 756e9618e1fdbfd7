"""What importing the light parts costs.

    python benchmarks/imports.py [--rounds 5]

Writes medians to benchmarks/results/imports.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import describe_machine

RESULTS = Path(__file__).resolve().parent / "results"
MODULES = ("streamseg.client", "streamseg.sources.worker", "streamseg.cli", "torch")
HEAVY = ("torch", "torchvision", "cv2", "av", "numpy", "supervision", "matplotlib")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    empty = statistics.median(seconds("pass") for _ in range(chosen.rounds))
    report: dict[str, object] = {"machine": describe_machine(), "empty_interpreter_seconds": round(empty, 3)}
    for module in MODULES:
        took = statistics.median(seconds(f"import {module}") for _ in range(chosen.rounds))
        report[module] = {"seconds_beyond_empty": round(took - empty, 3), "loads": loaded(module)}
    (RESULTS / "imports.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def seconds(code: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def loaded(module: str) -> list[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return [name for name in HEAVY if name in output.split()]


if __name__ == "__main__":
    main()
