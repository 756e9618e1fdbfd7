"""COCO mask AP per class, each class only on the images where all its objects are annotated."""

import contextlib
import io
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tqdm import tqdm

from streamseg.errors import UsageError
from streamseg.results.frame_result import run_lengths_of
from streamseg.training.data.check import CocoFile, check_file
from streamseg.training.data.coco import BadAnnotations, CocoImage, Content, Crowds, build_images, extent
from streamseg.training.data.problems import data_error
from streamseg.types import Instances

Segment = Callable[[NDArray[np.uint8]], Instances]
"""From an image, (H, W, 3) uint8 RGB, to the instances in it."""
Row = dict[str, Any]
"""One prediction in COCO's results format."""
_STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5}
"""Columns of the table and their place in COCOeval.stats."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """The scores that COCO's evaluation gives one class."""

    name: str
    images: int
    objects: int
    values: dict[str, float]
    """AP, AP50, ... in [0, 1]; -1 if the images have no object of the class."""


class Stopwatch:
    """A segmenter, timed: reading the images from disk does not count."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self.seconds: list[float] = []

    def __call__(self, image: NDArray[np.uint8]) -> Instances:
        """Segment an image, (H, W, 3) uint8 RGB."""
        started = time.perf_counter()
        found = self._segment(image)
        self.seconds.append(time.perf_counter() - started)
        return found

    def speed(self) -> str:
        """Images per second and the median time of one, with post-processing."""
        if not self.seconds:
            return "no images"
        rate, median = len(self.seconds) / sum(self.seconds), float(np.median(self.seconds))
        return f"{rate:.1f} images/s, {1000 * median:.1f} ms per image"


def evaluate(
    segment: Segment,
    classes: Sequence[str],
    *,
    images: Path,
    annotations: Path,
    predictions: Path | None = None,
    crowds: Crowds = "ignore",
    bad_annotations: BadAnnotations = "refuse",
    progress: bool = True,
) -> list[ClassScore]:
    """Segment every image of a COCO file and score the masks, class by class.

    ``segment`` takes (H, W, 3) uint8 RGB; give it a score threshold of 0. A class is scored on the
    images whose ``exhaustive_category_ids`` list it (all images without that key). ``predictions``
    gets the COCO results with the file's category ids, matched by name. ``crowds`` and
    ``bad_annotations`` are those of a training's ``data``. Raises UsageError; DataError, before anything is
    scored, with all problems of the file and its pictures.
    """
    if predictions is not None and not predictions.parent.is_dir():
        raise UsageError(f"{predictions}: there is no folder {predictions.parent}")
    coco = CocoFile(annotations, images, classes, crowds, bad_annotations)
    checked = check_file(coco, progress=progress)
    if checked.problems:
        hint = "--bad-annotations skip leaves out annotations that cannot be right"
        raise data_error(checked.problems, hint=hint)
    records = build_images(checked.content, images, classes, crowds=crowds)
    truth = make_truth(checked.content, crowds=crowds)
    rows = predict(segment, records, truth, progress=progress)
    if predictions is not None:
        predictions.write_text(json.dumps(rows))
    return score(truth, rows, records, classes)


def make_truth(content: Content, *, crowds: Crowds) -> COCO:
    """A COCO file as pycocotools holds it, with the keys that its evaluation needs and the file lacks."""
    sizes = {row["id"]: (row["height"], row["width"]) for row in content["images"]}
    rows = []
    # pycocotools takes an annotation whose id is 0 for a missing one.
    for number, row in enumerate(content["annotations"], start=1):
        crowd = int(bool(row.get("iscrowd")) and crowds == "ignore")
        area = row.get("area")
        if not (isinstance(area, int | float) and 0 < area < math.inf):
            area = extent(row["segmentation"], *sizes[row["image_id"]]).area
        rows.append(row | {"id": number, "iscrowd": crowd, "area": area})
    truth = COCO()
    truth.dataset = content | {"annotations": rows}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth.createIndex()
    return truth


def predict(segment: Segment, records: Sequence[CocoImage], truth: COCO, *, progress: bool) -> list[Row]:
    """The predictions on some images, with the file's category ids. Raises UsageError."""
    category = _categories(truth)
    bar = tqdm(records, "evaluating", unit="image", disable=not progress, leave=False)
    return [row for record in bar for row in _rows(segment(record.read()), record, category)]


def _categories(truth: COCO) -> dict[str, int]:
    return {row["name"]: row["id"] for row in truth.dataset["categories"]}


def _rows(found: Instances, image: CocoImage, category: dict[str, int]) -> list[Row]:
    rows = []
    for label, value, rle in zip(found.labels, found.scores, run_lengths_of(found), strict=True):
        if label in category:
            rows.append(
                {
                    "image_id": image.id,
                    "category_id": category[label],
                    "score": float(value),
                    "segmentation": {"size": list(rle.size), "counts": rle.counts},
                }
            )
    return rows


def score(
    truth: COCO, rows: Sequence[Row], records: Sequence[CocoImage], classes: Sequence[str]
) -> list[ClassScore]:
    """Score the predictions of some images, class by class."""
    category = _categories(truth)
    return [
        _score_class(truth, rows, records, class_id=class_id, name=name, category=category[name])
        for class_id, name in enumerate(classes)
        if name in category
    ]


def _score_class(
    truth: COCO,
    rows: Sequence[Row],
    records: Sequence[CocoImage],
    *,
    class_id: int,
    name: str,
    category: int,
) -> ClassScore:
    chosen = {record.id for record in records if class_id in record.exhaustive}
    found = [row for row in rows if row["category_id"] == category and row["image_id"] in chosen]
    # Given no image at all, pycocotools would count the objects of all images.
    ids = truth.getAnnIds(imgIds=sorted(chosen), catIds=[category], iscrowd=False) if chosen else []
    objects = len(ids)
    if not found or not objects:
        value = 0.0 if objects else -1.0
        return ClassScore(name, len(chosen), objects, dict.fromkeys(_STATS, value))
    with contextlib.redirect_stdout(io.StringIO()):
        # It writes into the rows, and could not take them again.
        evaluation = COCOeval(truth, truth.loadRes([dict(row) for row in found]), iouType="segm")
        evaluation.params.imgIds = sorted(chosen)
        evaluation.params.catIds = [category]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = {column: float(evaluation.stats[place]) for column, place in _STATS.items()}
    return ClassScore(name, len(chosen), objects, values)


def means(scores: Sequence[ClassScore]) -> dict[str, float]:
    """Mean of each column over the classes with objects; -1 where there are none."""
    return {
        column: float(np.mean([s.values[column] for s in scores if s.values[column] >= 0] or [-1.0]))
        for column in _STATS
    }


def format_table(scores: Sequence[ClassScore]) -> str:
    """A Markdown table, values in per cent; the last row is the mean of the classes with objects."""
    lines = [f"| class | images | objects | {' | '.join(_STATS)} |", "|---" * (3 + len(_STATS)) + "|"]
    lines += [_line(s.name, str(s.images), str(s.objects), s.values) for s in scores]
    return "\n".join([*lines, _line("mean", "", "", means(scores))])


def _line(name: str, images: str, objects: str, values: dict[str, float]) -> str:
    cells = [f"{100 * value:.1f}" if value >= 0 else "-" for value in values.values()]
    return f"| {name} | {images} | {objects} | {' | '.join(cells)} |"
