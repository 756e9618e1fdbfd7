"""The endless stream of training samples.

Sample number n depends on the seed and n alone, so a resumed run sees what the uninterrupted one
would have seen.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from streamseg.errors import UsageError
from streamseg.models.spec import LevelSpec
from streamseg.training.augment import Sample, change_colour, copy_paste, place_on_canvas
from streamseg.training.coco import CocoImage
from streamseg.training.config import TrainConfig
from streamseg.training.targets import Annotations, LevelTargets, build_targets


@dataclass(frozen=True, slots=True)
class TrainingItem:
    """One augmented image and what each level shall say about it."""

    image: Tensor
    """(3, H, W) uint8 RGB."""
    targets: list[LevelTargets]
    class_weights: list[Tensor]
    """(C, S, S) per level: 0 where a class is unknown."""


class TrainingStream(Dataset[TrainingItem]):
    """Augmented samples by their number in the stream."""

    def __init__(self, images: Sequence[CocoImage], config: TrainConfig) -> None:
        if config.model.input.canvas is None:
            raise UsageError("model.input.canvas: a training run needs one, e.g. [352, 480]")
        self._images = images
        self._config = config
        self._canvas = config.model.input.canvas
        weights = repeat_factors(images)
        self._probabilities = weights / weights.sum()

    def __len__(self) -> int:
        return self._config.schedule.steps * self._config.schedule.batch

    def __getitem__(self, number: int) -> TrainingItem:
        rng = np.random.default_rng((self._config.seed, number))
        image = self._draw(rng)
        sample = self._place(image, rng)
        if rng.random() < self._config.augment.copy_paste:
            sample = copy_paste(sample, self._place(self._draw(rng), rng), rng)
        if rng.random() < self._config.augment.colour:
            sample = replace(sample, image=change_colour(sample.image, rng))
        return self._item(sample, image.exhaustive)

    def _draw(self, rng: np.random.Generator) -> CocoImage:
        return self._images[rng.choice(len(self._images), p=self._probabilities)]

    def _place(self, image: CocoImage, rng: np.random.Generator) -> Sample:
        return place_on_canvas(load_sample(image), self._canvas, self._config.augment, rng)

    def _item(self, sample: Sample, exhaustive: frozenset[int]) -> TrainingItem:
        model = self._config.model
        boxes = _boxes(sample.masks)
        size = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        taught = ~sample.ignored & (size >= self._config.data.min_size)
        # Where two objects claim a cell, the later one gets it: small ones need it most.
        order = np.nonzero(taught)[0][np.argsort(-size[taught], kind="stable")]
        truth = Annotations(
            class_ids=torch.from_numpy(sample.class_ids[order]),
            boxes=torch.from_numpy(boxes[order]).float(),
            masks=torch.from_numpy(sample.masks[order]),
        )
        targets = build_targets(
            truth,
            model.head.levels,
            classes=len(model.classes),
            mask_strides=model.mask_strides,
            pairs=model.architecture == "solov2",
        )
        ignored = [(int(c), box) for c, box in zip(sample.class_ids[~taught], boxes[~taught], strict=True)]
        unknown = torch.from_numpy(np.append(sample.unknown[order], False))  # the last one is for "no owner"
        weights = [
            self._class_weights(level, target, exhaustive, ignored, unknown)
            for level, target in zip(model.head.levels, targets, strict=True)
        ]
        image = torch.from_numpy(np.ascontiguousarray(sample.image.transpose(2, 0, 1)))
        return TrainingItem(image, targets, weights)

    def _class_weights(
        self,
        level: LevelSpec,
        target: LevelTargets,
        exhaustive: frozenset[int],
        ignored: Sequence[tuple[int, NDArray[np.int64]]],
        unknown: Tensor,
    ) -> Tensor:
        """(C, S, S): 1 where the class of a cell is known, 0 where it is not."""
        classes = self._config.model.classes
        weights = torch.zeros(len(classes), level.grid, level.grid)
        weights[sorted(exhaustive)] = 1
        steps = np.array([level.grid / self._canvas[1], level.grid / self._canvas[0]] * 2)
        for class_id, box in ignored:
            x1, y1, x2, y2 = (box * steps).astype(int)
            weights[class_id, y1 : y2 + 1, x1 : x2 + 1] = 0
        weights[:, target.owners >= 0] = 1
        wheelers = [classes.index(c) for c in self._config.data.four_wheelers if c in classes]
        of_unknown_type = unknown[target.owners]
        for c in wheelers:
            weights[c][of_unknown_type & (target.class_ids != c)] = 0
        return weights


def load_sample(image: CocoImage) -> Sample:
    """Read an image and decode its masks. Raises UsageError if the file cannot be read."""
    pixels = cv2.imread(str(image.path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise UsageError(f"{image.path}: not a readable image")
    masks = [o.mask(image.height, image.width) for o in image.objects]
    return Sample(
        image=cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB),
        masks=np.stack(masks) if masks else np.zeros((0, image.height, image.width), dtype=np.uint8),
        class_ids=np.array([o.class_id for o in image.objects], dtype=np.int64),
        unknown=np.array([o.unknown_vehicle for o in image.objects], dtype=np.bool_),
        ignored=np.array([o.crowd for o in image.objects], dtype=np.bool_),
    )


def _boxes(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, H, W), none empty -> (n, 4) tight x1, y1, x2, y2, the latter two exclusive."""
    columns: NDArray[np.bool_] = np.any(masks, axis=1)
    rows: NDArray[np.bool_] = np.any(masks, axis=2)
    return np.stack(
        (
            columns.argmax(axis=1),
            rows.argmax(axis=1),
            columns.shape[1] - columns[:, ::-1].argmax(axis=1),
            rows.shape[1] - rows[:, ::-1].argmax(axis=1),
        ),
        axis=1,
    )


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """B items."""

    images: Tensor
    """(B, 3, H, W) uint8 RGB."""
    targets: list[list[LevelTargets]]
    """Per image, per level."""
    class_weights: list[Tensor]
    """(B, C, S, S) per level."""


def collate(items: Sequence[TrainingItem]) -> TrainingBatch:
    """Put items of one canvas into a batch."""
    return TrainingBatch(
        images=torch.stack([item.image for item in items]),
        targets=[item.targets for item in items],
        class_weights=[torch.stack(w) for w in zip(*(item.class_weights for item in items), strict=True)],
    )


def repeat_factors(images: Sequence[CocoImage], *, threshold: float = 0.2) -> NDArray[np.float64]:
    """How often to draw each image, (len(images),): rare classes more often.

    LVIS paper, section 5.3: max over an image's classes of sqrt(threshold / part of the images with
    that class), at least 1. Images without objects are drawn half as often.
    """
    present = [{o.class_id for o in image.objects if not o.crowd} for image in images]
    counts = Counter(c for classes in present for c in classes)
    factor = {c: max(1.0, math.sqrt(threshold * len(images) / n)) for c, n in counts.items()}
    return np.array([max((factor[c] for c in classes), default=0.5) for classes in present])
