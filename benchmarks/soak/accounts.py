"""Whether every frame, result and event is accounted for, after the run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.soak.house import CAMERAS, House
from benchmarks.soak.program import Program
from benchmarks.soak.readers import Reader

LONGEST_STEP = 30.0
"""Seconds: a camera is lost before it has been silent for so long; its jumps are longer."""


def account_for(house: House, program: Program, readers: Sequence[Reader]) -> dict[str, Any]:
    """Frames by stream, results by subscriber, events by receiver."""
    published: dict[str, list[int]] = {}
    steps: dict[str, list[float]] = {}
    events: list[dict[str, Any]] = []
    for camera in CAMERAS:
        results = [json.loads(line) for line in (house.out / f"{camera}.ndjson").open()]
        published[camera] = [result["frame"] for result in results]
        steps[camera] = _steps(results)
        events += [event for result in results for event in result.get("events", ())]
    drops = program.drops()
    return {
        "frames": {name: _frames(published[name], drops.get(name, {})) for name in CAMERAS},
        "subscribers": {reader.name: reader.account(published) for reader in readers},
        "shortest_and_longest_step_of_pts": steps,
        "events": len(events),
        "webhook": _events(events, house.hook.accepted),
        "mqtt": _events(events, house.mqtt.taken()),
    }


def _frames(results: list[int], drops: dict[str, int]) -> dict[str, int]:
    before = sum(count for reason, count in drops.items() if not reason.startswith("by "))
    return {
        "decoded": results[-1] + 1,
        "results": len(results),
        "dropped": before,
        "dropped_by_outputs": sum(drops.values()) - before,
        # Frames that were dropped behind the last result make it negative.
        "unaccounted_for": max(0, results[-1] + 1 - len(results) - before),
    }


def _steps(results: list[dict[str, Any]]) -> list[float]:
    """Seconds from a result to the next one of its epoch, by the stream's clock: the shortest and longest."""
    pairs = [(a, b) for a, b in pairwise(results) if a["epoch"] == b["epoch"]]
    found = [b["pts"] - a["pts"] for a, b in pairs]
    return [round(min(found), 6), round(max(found), 3)]


def _events(happened: list[dict[str, Any]], received: list[dict[str, Any]]) -> dict[str, int]:
    wanted, got = (Counter(json.dumps(e, sort_keys=True) for e in events) for events in (happened, received))
    return {"lost": (wanted - got).total(), "doubled": (got - wanted).total()}


def check(found: dict[str, Any]) -> list[str]:
    """What of a report is not as it should be."""
    return list(_check(found))


def _check(found: dict[str, Any]) -> Iterator[str]:
    for name, frames in found["frames"].items():
        if frames["unaccounted_for"]:
            yield f"{name}: {frames['unaccounted_for']} frames are not accounted for"
    for name, seen in found["subscribers"].items():
        for key in ("lost", "doubled", "out_of_order", "error"):
            if seen[key]:
                yield f"subscriber {name}: {key} {seen[key]}"
    for name, (shortest, longest) in found["shortest_and_longest_step_of_pts"].items():
        if shortest <= 0 or longest > LONGEST_STEP:
            yield f"{name}: its clock goes {shortest} to {longest} s from a result to the next one"
    for name in ("webhook", "mqtt"):
        if found[name]["lost"]:
            yield f"{name}: {found[name]['lost']} events are lost"
    if found["exit_code"] != 143:
        yield f"exit code {found['exit_code']}"
