"""Everything fails at random for an hour: does anything pile up, get lost or tell a lie?

    python -m benchmarks.soak [--minutes 60] [--rounds N] [--only WORDS]      (or: make soak MINUTES=60)

The program runs in a process of its own with five cameras (RTSP over TCP and UDP, JPEGs over HTTP, HLS), its
model a stand-in that is too slow for them. It writes to two Redis servers, files of results, overlay video,
a webhook and MQTT. All its peers are real. Every kind of fault comes once a round, in another order each
time, eight rounds an hour. Of each, log, /metrics, /readyz, status and page have to tell the same while it
lasts and when it is over. Subscribers of every kind note what they see; one of them is so slow that results
are trimmed under it. Memory is read from outside, and from inside what of it is in use. Writes
benchmarks/results/soak.json; exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.soak.accounts import account_for, check
from benchmarks.soak.faults import Fault, all_faults
from benchmarks.soak.house import House, furnished
from benchmarks.soak.memory import Samples
from benchmarks.soak.program import running
from benchmarks.soak.readers import all_readers
from benchmarks.soak.witness import Witness
from tests.support.program import ROOT

ROUNDS_AN_HOUR = 8


class Diary:
    """What happened: how long each fault took to heal, and what was not as it should be."""

    def __init__(self) -> None:
        self.healed: dict[str, list[float]] = {}
        self.wrong: list[str] = []

    def suffer(self, fault: Fault, house: House, witness: Witness) -> None:
        """One fault from beginning to end."""
        witness.begin()
        try:
            heal = fault.cause(house, witness)
            try:
                fault.told(witness)
            finally:
                heal()
                healed = time.monotonic()
            witness.wait_until_well()
            self.healed.setdefault(fault.name, []).append(round(time.monotonic() - healed, 1))
        except Exception as error:  # noqa: BLE001  the others are to happen all the same
            self.wrong.append(f"{fault.name}: {type(error).__name__}: {error}")
        print(fault.name, self.healed.get(fault.name, []), self.wrong[-1:], flush=True)

    def report(self) -> dict[str, Any]:
        """Times each kind happened, and its seconds from being put right until all agree that all is well."""
        return {
            name: {"times": len(s), "seconds_until_well": {"median": sorted(s)[len(s) // 2], "max": max(s)}}
            for name, s in self.healed.items()
        }


def schedule(
    minutes: float, rounds: int | None, faults: list[Fault], draw: random.Random
) -> Iterator[tuple[float, Fault]]:
    """Seconds from the start, and what happens then; a fault that is late takes its turn when it can."""
    rounds = rounds or max(1, round(minutes / 60 * ROUNDS_AN_HOUR))
    every = 60 * minutes / (rounds * len(faults) + 1)
    for number in range(rounds):
        for place, fault in enumerate(draw.sample(faults, len(faults))):
            yield (number * len(faults) + place + 1) * every, fault


def soak(folder: Path, minutes: float, chosen: argparse.Namespace) -> dict[str, Any]:
    draw = random.Random(chosen.seed)
    diary = Diary()
    with ExitStack() as stack:
        house = stack.enter_context(furnished(folder, minutes=minutes))
        os.environ["REDIS_PASSWORD_FILE"] = str(house.twins.password_file)  # for the subscribers
        readers = all_readers(house.twins.url)
        for reader in readers:
            reader.start()
        program = stack.enter_context(running(house.config, folder / "log.ndjson"))
        witness, samples = Witness(house, program), Samples(program)
        stack.enter_context(samples.taken())
        faults = [
            fault for fault in all_faults(draw.choice, own_disk=house.own_disk) if chosen.only in fault.name
        ]
        start = time.monotonic()
        witness.wait_until_begun()
        for at, fault in schedule(minutes, chosen.rounds, faults, draw):
            samples.well.set()
            time.sleep(max(0.0, start + at - time.monotonic()))
            samples.well.clear()
            diary.suffer(fault, house, witness)
        samples.well.set()
        time.sleep(max(0.0, start + 60 * minutes - time.monotonic()))
        lasted = (time.monotonic() - start) / 60
        samples.well.clear()
        code = program.stop()
        for reader in readers:
            reader.ended.set()
        for reader in readers:
            reader.join()
        return {
            "minutes": round(lasted, 1),
            "seed": chosen.seed,
            "exit_code": code,
            "faults": diary.report(),
            "wrong": diary.wrong,
            **account_for(house, program, readers),
            "growth_per_hour": samples.growth(),
            "by_quarter": samples.quarters(),
            "log_lines": len(program.log()),
            "samples": samples.all[:: max(1, len(samples.all) // 60)],
        }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--minutes", type=float, default=60.0)
    options.add_argument("--seed", type=int, default=1, help="of the order of faults")
    options.add_argument("--rounds", type=int, help="in which every fault comes once; eight an hour")
    options.add_argument("--only", default="", help="only faults whose names have these words")
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "soak.json")
    options.add_argument("--folder", type=Path, help="for everything that is written; kept")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = soak(folder, chosen.minutes, chosen)
    report = {"machine": describe_machine(), **found, "wrong": found["wrong"] + check(found)}
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps({key: value for key, value in report.items() if key != "samples"}, indent=2))
    sys.exit(1 if report["wrong"] else 0)


if __name__ == "__main__":
    main()
