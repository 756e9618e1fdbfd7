"""Whether track ids stay with people: CLEAR-MOT figures on the demo clip, and ids on clips of one person.

    python benchmarks/tracking.py [--clip FILE ...]

The demo clip is compared with samples/street.people.json, where eight people, one of whom comes back, were
marked by eye about every twelfth frame; boxes in between are interpolated. Matches need an IoU of 0.3 with
the box of the mask's largest piece: masks are smaller than what is drawn by eye. Every --clip lists its ids
with their first and last frames, to be compared with what is seen. Writes benchmarks/results/tracking.json.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import motmetrics
import numpy as np
from machine import describe_machine

from streamseg import run
from streamseg.masks.parts import main_box
from streamseg.types import FrameResult, InstanceResult

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "samples" / "street.mp4"
PEOPLE = ROOT / "samples" / "street.people.json"
_IOU = 0.3
_FIGURES = (
    "num_frames",
    "num_unique_objects",
    "num_objects",
    "num_matches",
    "num_misses",
    "num_false_positives",
    "num_switches",
    "num_fragmentations",
    "mostly_tracked",
    "partially_tracked",
    "mostly_lost",
    "mota",
    "idf1",
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--clip", type=Path, nargs="*", default=[])
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "tracking.json")
    chosen = options.parse_args()
    results = list(run(str(CLIP)))
    report = {
        "machine": describe_machine(),
        "street.mp4": clear_mot(results),
        "ids of people in street.mp4": switches(results),
    }
    report |= {clip.name: spans(run(str(clip))) for clip in chosen.clip}
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def clear_mot(results: Sequence[FrameResult]) -> dict[str, float]:
    """Figures of people's ids against those marked by eye."""
    summary = motmetrics.metrics.create().compute(accumulate(results), metrics=list(_FIGURES), name="clip")
    return {name: round(float(summary[name]["clip"]), 3) for name in _FIGURES}


def switches(results: Sequence[FrameResult]) -> dict[str, list[str]]:
    """By person, which ids it had when: "id 4 in frames 1-58"."""
    matches = accumulate(results).mot_events
    matches = matches[matches["Type"].isin(["MATCH", "SWITCH"])].reset_index()
    found: dict[str, list[str]] = {}
    names = list(marked_boxes())
    for person, rows in matches.groupby("OId"):
        pieces: list[list[int]] = []
        for frame, id_ in zip(rows["FrameId"], rows["HId"], strict=True):
            if not pieces or pieces[-1][0] != id_:
                pieces.append([int(id_), int(frame), int(frame)])
            pieces[-1][2] = int(frame)
        found[names[int(person)]] = [f"id {id_} in frames {first}-{last}" for id_, first, last in pieces]
    return found


def accumulate(results: Sequence[FrameResult]) -> motmetrics.MOTAccumulator:
    marked = dict(enumerate(marked_boxes().values()))  # the library wants numbers
    accumulator = motmetrics.MOTAccumulator()
    for result in results:
        here = {number: boxes[result.frame] for number, boxes in marked.items() if result.frame in boxes}
        tracked = {i.id: body(i) for i in result.instances if i.label == "person" and i.id is not None}
        distances = 1 - ious(list(here.values()), list(tracked.values()))
        distances[distances > 1 - _IOU] = np.nan
        accumulator.update(list(here), list(tracked), distances, frameid=result.frame)
    return accumulator


def body(instance: InstanceResult) -> tuple[int, ...]:
    """The box of the mask's largest piece: stray ones are the network's fault, not the tracker's."""
    x1, y1, x2, y2 = box = [int(side) for side in instance.box]
    return main_box(instance.mask[y1:y2, x1:x2], box)


def marked_boxes() -> dict[str, dict[int, np.ndarray]]:
    """By person and frame, x1, y1, x2, y2."""
    marked = {}
    for name, keyframes in json.loads(PEOPLE.read_text())["people"].items():
        known = np.array([int(frame) for frame in keyframes])
        corners = np.array(list(keyframes.values()), float)
        frames = np.arange(known[0], known[-1] + 1)
        boxes = np.stack([np.interp(frames, known, corners[:, k]) for k in range(4)], axis=1)
        marked[name] = dict(zip(frames.tolist(), boxes, strict=True))
    return marked


def ious(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> np.ndarray:
    """(len(a), len(b)) IoU of boxes x1, y1, x2, y2."""
    first, second = np.array(a, float).reshape(-1, 1, 4), np.array(b, float).reshape(1, -1, 4)
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1) for boxes in (first, second)]
    return shared / (areas[0] + areas[1] - shared)


def spans(results: Iterable[FrameResult]) -> list[dict[str, object]]:
    """Ids of people: first and last frame, and in how many frames between they were seen."""
    seen: dict[int | None, list[int]] = {}
    for result in results:
        for instance in result.instances:
            if instance.label == "person":
                seen.setdefault(instance.id, []).append(result.frame)
    return [
        {"id": id_, "first": frames[0], "last": frames[-1], "frames": len(frames)}
        for id_, frames in sorted(seen.items(), key=lambda item: (item[0] is None, item[1]))
    ]


if __name__ == "__main__":
    main()
