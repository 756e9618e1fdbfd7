"""Do zones and lines count what people count? Recordings with the counts that were made by eye.

    python benchmarks/counting.py [--clips FOLDER] [--out FILE]

Runs the bundled weights over `samples/street.mp4`, and over those clips of FOLDER that are there (by default
`../shared/clips`), with the zones and lines below: they lie where a person would put them, and what is
expected was counted by eye, frame by frame, before they were run. Labels are compared too: how often that of
a track changes from frame to frame, as the network gives it and as the track's frames agree on it.

Writes benchmarks/results/counting.json. The exit code is 1 if a count differs.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from machine import describe_machine

from streamseg import run
from streamseg.types import FrameResult, InstanceResult

ROOT = Path(__file__).resolve().parent.parent
DEMO = yaml.safe_load((ROOT / "configs" / "demo.yaml").read_text())["streams"][0]


@dataclass(frozen=True)
class Scene:
    seen: str
    """What a person sees."""
    rules: Mapping[str, Any]
    """Keys of the stream."""
    expected: Mapping[str, int]
    """Number of events, by kind, place and direction."""


SCENES = {
    "street.mp4": Scene(
        "four people come to the path left of the lamp post; one is there from the beginning and leaves "
        "after 4.2 seconds, two come past the post, from right to left, after 1.4 and 10.3 seconds",
        {key: DEMO[key] for key in ("zones", "lines")},
        {"enter path": 4, "leave path": 1, "cross lamp in": 2},
    ),
    "car-detection.mp4": Scene(
        "four cars seen from above: white up (frame 88), silver down (200), red up (217), white down (329)",
        {"lines": {"road": {"points": [[0.0, 0.5], [1.0, 0.5]], "classes": ["car"]}}},
        {"cross road in": 2, "cross road out": 2},
    ),
    "one-by-one-person-detection.mp4": Scene(
        "six people, one after the other: each comes from below, stands at the table for more than five "
        "seconds, and leaves to the right",
        {
            "zones": {
                "table": {
                    "polygon": [[0.4, 0.7], [0.75, 0.7], [0.75, 1.0], [0.4, 1.0]],
                    "classes": ["person"],
                    "dwell": 5,
                }
            },
            "lines": {"exit": {"points": [[0.78, 1.0], [0.78, 0.5]], "classes": ["person"]}},
        },
        {"enter table": 6, "dwell table": 6, "leave table": 6, "cross exit in": 6},
    ),
}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--clips", type=Path, default=ROOT.parent / "shared" / "clips")
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "counting.json")
    chosen = options.parse_args()
    report: dict[str, Any] = {"machine": describe_machine(), "clips": {}}
    for name, scene in SCENES.items():
        places = [folder / name for folder in (ROOT / "samples", chosen.clips) if (folder / name).exists()]
        report["clips"][name] = count(places[0], scene) if places else "is not there"
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))
    return int(any(isinstance(one, dict) and not one["equal"] for one in report["clips"].values()))


def count(clip: Path, scene: Scene) -> dict[str, Any]:
    results = list(run(clip, **scene.rules))
    counted = Counter(
        " ".join(filter(None, (event.event, event.zone or event.line, event.direction)))
        for result in results
        for event in result.events or ()
    )
    return {
        "seen": scene.seen,
        "rules": scene.rules,
        "by_eye": scene.expected,
        "counted": dict(sorted(counted.items())),
        "equal": counted == Counter(scene.expected),
        "label_changes": label_changes(results),
    }


def label_changes(results: Sequence[FrameResult]) -> dict[str, int]:
    """How often a track has another label than in its frame before."""

    def changes(labels: Mapping[int, list[str]]) -> int:
        return sum(a != b for one in labels.values() for a, b in pairwise(one))

    of_network: dict[int, list[str]] = {}
    of_track: dict[int, list[str]] = {}
    for result in results:
        for instance in result.instances:
            if instance.id is not None:
                of_network.setdefault(instance.id, []).append(called(instance))
                of_track.setdefault(instance.id, []).append(instance.label)
    return {
        "tracks": len(of_track),
        "of_the_network": changes(of_network),
        "of_the_tracks": changes(of_track),
    }


def called(instance: InstanceResult) -> str:
    """What the network called it."""
    return (instance.outvoted or instance).label


if __name__ == "__main__":
    sys.exit(main())
