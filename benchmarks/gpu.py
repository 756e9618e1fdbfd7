"""Is what a GPU computes right, and how fast is it? One command, at most 5 minutes, nothing to download.

    python benchmarks/gpu.py [--device cuda] [--out FILE] [--oracles DIR] [--models NAME ... | all]
    python benchmarks/gpu.py --device cpu --quick

* correctness (`gpu_checks.py`): fp32 against the CPU on reference networks and on frames of the demo clip,
  half precision against fp32, CUDA graphs against none, post-processing and run lengths against the CPU's;
  the tests that need a card;
* tables (`gpu_tables.py`): the bundled and the official models in batches of 1, 8 and 32: the network, from
  host frames to run lengths on the host, and how much of the time the GPU is busy; both orders in memory;
* the whole program on 1 and 16 file streams to NDJSON;
* memory: what many batches leave behind.

Prints JSON with the device's name, and a line for each check with a verdict: true, false, or null if it was
not made (and why). The exit code is 1 if one is false. Rows of the tables for which there is no time are
named in `left_out`. `--quick` makes every check once, on little; on a CPU it takes half a minute.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import gpu_checks  # noqa: E402
import gpu_tables  # noqa: E402
import torch  # noqa: E402
from gpu_checks import Line  # noqa: E402
from machine import describe_machine  # noqa: E402
from models import MODELS  # noqa: E402

from streamseg.inference.devices import choose_device  # noqa: E402
from streamseg.models.weights.zoo import official_models  # noqa: E402

BUDGET = 270.0
"""Seconds after which no new row of a table is begun."""
QUICK_MODELS = ("solov2_light_448_r18",)


def main() -> None:
    chosen = read_options()
    started = time.monotonic()
    device = choose_device(chosen.device)
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32 where it is compared
    lines = [line for check in gpu_checks.CHECKS for line in run_check(check, device, chosen.quick)]
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "quick": chosen.quick,
        "checks": [line.as_dict() for line in lines],
        **gpu_tables.measure_all(models(chosen), device, quick=chosen.quick, until=started + BUDGET),
        "seconds": round(time.monotonic() - started, 1),
    }
    text = json.dumps(report, indent=2) + "\n"
    if chosen.out:
        chosen.out.write_text(text)
    print(text, end="")
    sys.exit(any(line.ok is False for line in lines))


def read_options() -> argparse.Namespace:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--device", default="cuda")
    options.add_argument("--quick", action="store_true")
    options.add_argument("--models", nargs="+", help="names, or all; the bundled model always comes first")
    options.add_argument(
        "--oracles", type=Path, help="folder of reference numbers  [../shared/oracle, or ours]"
    )
    options.add_argument("--out", type=Path)
    chosen = options.parse_args()
    shared = ROOT.parent / "shared" / "oracle"
    if folder := chosen.oracles or (shared if shared.is_dir() and not chosen.quick else None):
        os.environ["STREAMSEG_ORACLE_DIR"] = str(folder)
    return chosen


def models(chosen: argparse.Namespace) -> list[str]:
    if chosen.models is None:
        return list(QUICK_MODELS if chosen.quick else MODELS)
    return list(official_models()) if chosen.models == ["all"] else chosen.models


def run_check(check: gpu_checks.Check, device: torch.device, quick: bool) -> list[Line]:
    """Its lines; what breaks is a false one, and the others are made all the same."""
    name = check.__name__
    try:
        lines = check(device, quick)
    except Exception as error:  # noqa: BLE001
        lines = [Line(name, False, f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")]
    for line in lines:
        print(f"{line.verdict:6} {line.check}: {line.found}", file=sys.stderr, flush=True)
    return lines


if __name__ == "__main__":
    main()
