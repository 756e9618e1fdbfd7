"""The images of a run: those to train on, and those to score the weights on."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from streamseg.errors import UsageError
from streamseg.training.config import TrainConfig
from streamseg.training.data.check import CocoFile, check_file
from streamseg.training.data.coco import CocoImage, Content, build_images
from streamseg.training.data.dataset import drawn_images
from streamseg.training.data.problems import data_error
from streamseg.training.data.taught import Sizes

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


def read_splits(config: TrainConfig, *, again: bool = False, progress: bool = False) -> Splits:
    """Check and read the images and annotations of a run; ``again``: another process has checked them.

    Raises DataError that tells all problems at once.
    """
    data, classes = config.data, config.model.classes
    files = _coco_files(config)
    checked = [check_file(coco, again=again, progress=progress) for coco in files]
    problems = [problem for found in checked for problem in found.problems]
    if problems:
        hint = "data.bad_annotations: skip leaves out annotations that cannot be right"
        raise data_error(problems, hint=hint)
    train, *rest = [
        build_images(found.content, coco.folder, classes, ambiguous=data.ambiguous, crowds=data.crowds)
        for found, coco in zip(checked, files, strict=True)
    ]
    val = rest[0] if rest else []
    if data.val is None and data.val_part:
        train, val = _split(train, data.val_part)
        _check_split(train, val, config, again=again)
    return Splits(drawn_images(train, without_objects=data.without_objects), val, checked[-1].content)


def _coco_files(config: TrainConfig) -> list[CocoFile]:
    data = config.data
    scored = partial(
        CocoFile,
        classes=config.model.classes,
        crowds=data.crowds,
        bad_annotations=data.bad_annotations,
        teach_crowds="data.crowds: teach",
    )
    files = [scored(data.train, data.images, sizes=Sizes(config))]
    if data.val is not None:
        files.append(scored(data.val, data.val_images or data.images))
    return files


def _check_split(
    train: Sequence[CocoImage], val: Sequence[CocoImage], config: TrainConfig, *, again: bool
) -> None:
    """Say what the part that is held back takes away. Raises UsageError if that is all there is to teach."""
    data = config.data
    taught, held_back = (Counter(o.class_id for i in images for o in i.objects) for images in (train, val))
    if not taught:
        what = f"{len(val)} of {len(train) + len(val)} images"
        raise UsageError(
            f"data.val_part {data.val_part}: {what} of {data.train} are held back to score on, and no object "
            "is left to train on: add images, give data.val, or set data.val_part to 0"
        )
    for class_id, name in enumerate(config.model.classes):
        if held_back[class_id] and not taught[class_id] and not again:
            logger.warning(
                "data.val_part holds back every image with an object of class %r: it is not taught", name
            )


def _split(images: Sequence[CocoImage], part: float) -> tuple[list[CocoImage], list[CocoImage]]:
    """Hold back a part, at least one image, by a hash of the names: the same whatever their order."""
    ranked = sorted(images, key=lambda image: hashlib.sha256(image.path.name.encode()).digest())
    held_back = {image.id for image in ranked[: max(1, round(part * len(ranked)))]}
    return (
        [image for image in images if image.id not in held_back],
        [image for image in images if image.id in held_back],
    )
