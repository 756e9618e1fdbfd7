"""The images of a run: those to train on, and those to score the weights on."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamseg.errors import DataError, UsageError
from streamseg.training.config import DataConfig, TrainConfig
from streamseg.training.data.check import Problem, check_content, check_image_files
from streamseg.training.data.coco import CocoImage, Content, build_images, load_content
from streamseg.training.data.dataset import drawn_images

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Splits:
    """The images of a run, with their annotations."""

    train: list[CocoImage]
    """The images that samples are made from; an epoch has as many samples."""
    val: list[CocoImage]
    """The images that the weights are scored on; empty: nothing is scored."""
    truth: Content
    """The COCO file that ``val`` is from."""


@dataclass(frozen=True, slots=True)
class _CocoFile:
    """A COCO file and the folder of its images."""

    file: Path
    folder: Path
    to_train: bool

    def load(self) -> Content | Problem:
        try:
            return load_content(self.file)
        except UsageError as error:
            return Problem(str(error))


def check_data(config: TrainConfig) -> None:
    """Look for whatever is wrong with the images and annotations of a run.

    Raises DataError with a line for each problem.
    """
    problems: list[str] = []
    for coco in _coco_files(config.data):
        content = coco.load()
        if isinstance(content, Problem):
            problems.append(content.text)
            continue
        skip = config.data.bad_annotations == "skip"
        found = check_content(content, coco.file, config.model.classes, complete=coco.to_train)
        problems += [p.text for p in found if not (skip and p.annotation is not None)]
        problems += [p.text for p in check_image_files(content, coco.file, coco.folder)]
        if coco.to_train and not problems:
            _log_other_categories(content, coco.file, config.model.classes)
    if problems:
        raise DataError(
            f"the data has {len(problems)} problem{'s' if len(problems) > 1 else ''}"
            " (data.bad_annotations: skip leaves out annotations that cannot be right)",
            problems,
        )


def read_splits(config: TrainConfig) -> Splits:
    """Read the annotations of a run, which have been checked. Raises UsageError."""
    data = config.data
    contents = [_good_content(coco, config) for coco in _coco_files(data)]
    train, *rest = [
        build_images(content, coco.folder, config.model.classes, data.ambiguous)
        for content, coco in zip(contents, _coco_files(data), strict=True)
    ]
    val = rest[0] if rest else []
    if data.val is None and data.val_part:
        train, val = _split(train, data.val_part)
    drawn = drawn_images(train, without_objects=data.without_objects)
    if not any(not o.crowd for image in drawn for o in image.objects):
        raise UsageError(f"{data.train}: no image to train on has an object of the model's classes")
    return Splits(drawn, val, contents[-1])


def _coco_files(data: DataConfig) -> list[_CocoFile]:
    files = [_CocoFile(data.train, data.images, True)]
    if data.val is not None:
        files.append(_CocoFile(data.val, data.val_images or data.images, False))
    return files


def _good_content(coco: _CocoFile, config: TrainConfig) -> Content:
    """The content of a COCO file, without annotations that cannot be right if those are to be skipped."""
    content = load_content(coco.file)
    if config.data.bad_annotations == "refuse":
        return content
    found = check_content(content, coco.file, config.model.classes, complete=False)
    bad = {problem.annotation: problem.text for problem in found if problem.annotation is not None}
    if bad:
        logger.warning("%d annotations left out, the first is %s", len(bad), next(iter(bad.values())))
    kept = [row for place, row in enumerate(content["annotations"]) if place not in bad]
    return content | {"annotations": kept}


def _log_other_categories(content: Content, file: Path, classes: Sequence[str]) -> None:
    others = {c["id"]: c["name"] for c in content["categories"] if c.get("name") not in classes}
    used = Counter(row.get("category_id") for row in content["annotations"])
    if others:
        count = sum(used[id_] for id_ in others)
        names = ", ".join(map(str, others.values()))
        logger.info("%s: categories that are no class, left out: %s (%d annotations)", file, names, count)


def _split(images: Sequence[CocoImage], part: float) -> tuple[list[CocoImage], list[CocoImage]]:
    """Hold back a part, at least one image, by a hash of the names: the same whatever their order."""
    ranked = sorted(images, key=lambda image: hashlib.sha256(image.path.name.encode()).digest())
    held_back = {image.id for image in ranked[: max(1, round(part * len(ranked)))]}
    return (
        [image for image in images if image.id not in held_back],
        [image for image in images if image.id in held_back],
    )
