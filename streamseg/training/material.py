"""The images of a run: what is drawn from, and what the weights are scored on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamseg.errors import UsageError
from streamseg.training.coco import CocoImage, read_coco
from streamseg.training.config import TrainConfig
from streamseg.training.dataset import drawn_images


@dataclass(frozen=True, slots=True)
class Material:
    """Images with their annotations."""

    train: list[CocoImage]
    """What is drawn from: an epoch has as many samples."""
    val: list[CocoImage]
    """Empty: nothing is scored."""
    truth: Path
    """The COCO file that ``val`` is from."""


def read_material(config: TrainConfig) -> Material:
    """Read the annotations of a run. Raises UsageError."""
    data, classes = config.data, config.model.classes
    train = read_coco(data.train, data.images, classes)
    val: list[CocoImage] = []
    if data.val is not None:
        val = read_coco(data.val, data.val_images or data.images, classes)
    elif data.val_part:
        train, val = _split(train, data.val_part)
    drawn = drawn_images(train, without_objects=data.without_objects)
    if not any(image.objects for image in drawn):
        raise UsageError(f"{data.train}: no image to train on has an object of the model's classes")
    return Material(drawn, val, data.val or data.train)


def _split(images: Sequence[CocoImage], part: float) -> tuple[list[CocoImage], list[CocoImage]]:
    """Hold back a part, at least one image. Which ones depends on their names alone, so that images
    added later change nothing for the others' side but at the border.
    """
    ranked = sorted(images, key=lambda image: hashlib.sha256(image.path.name.encode()).digest())
    held_back = {image.id for image in ranked[: max(1, round(part * len(ranked)))]}
    return (
        [image for image in images if image.id not in held_back],
        [image for image in images if image.id in held_back],
    )
