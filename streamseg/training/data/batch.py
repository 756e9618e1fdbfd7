"""From augmented images to a batch: one canvas, and the targets on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamseg.models.input_size import padded
from streamseg.models.spec import LevelSpec
from streamseg.training.config import TrainConfig
from streamseg.training.data.augment import Sample
from streamseg.training.data.dataset import TrainingItem
from streamseg.training.losses import PositiveCounts
from streamseg.training.targets import Annotations, LevelTargets, build_targets

_ALIGNMENT = 16
"""Bytes: a view of a buffer as another type has to begin at a multiple of that type's size."""


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """B images and what each level of the head learns from them."""

    images: Tensor
    """(B, H, W, 3) uint8 RGB; beyond an image's size 0."""
    sizes: list[tuple[int, int]]
    """Height and width of each image; the rest of the canvas is padding."""
    targets: list[list[LevelTargets]]
    """Per image, per level."""
    class_weights: list[Tensor]
    """(B, C, S, S) per level: 0 where a class is unknown."""
    counts: PositiveCounts
    """Positives and positive cells of these images."""
    names: list[str]
    """The files the images are made from."""


class PackedBatch:
    """A :class:`TrainingBatch` whose tensors share one buffer."""

    def __init__(self, batch: TrainingBatch) -> None:
        self._rest = replace(batch, images=torch.empty(0), targets=[], class_weights=[])
        self._packed = pack([batch.images, *batch.class_weights, *_flat(batch.targets)])
        self._levels = len(batch.class_weights)

    def pin_memory(self) -> "PackedBatch":
        """Called by the loader: a copy to a GPU from pinned memory runs in the background."""
        self._packed = Packed(self._packed.buffer.pin_memory(), self._packed.layout)
        return self

    def unpack(self, device: torch.device) -> TrainingBatch:
        """The batch, on ``device``."""
        buffer = self._packed.buffer.to(device, non_blocking=True)
        tensors = iter(Packed(buffer, self._packed.layout).tensors())
        return replace(
            self._rest,
            images=next(tensors),
            class_weights=[next(tensors) for _ in range(self._levels)],
            targets=[
                [_level_targets(tensors) for _ in range(self._levels)] for _ in range(len(self._rest.names))
            ],
        )


def _flat(targets: Sequence[Sequence[LevelTargets]]) -> Iterator[Tensor]:
    for image in targets:
        for level in image:
            yield from (level.class_ids, level.owners, level.rows, level.columns, level.masks, level.boxes)


def _level_targets(tensors: Iterator[Tensor]) -> LevelTargets:
    class_ids, owners, rows, columns, masks, boxes = (next(tensors) for _ in range(6))
    return LevelTargets(class_ids, owners, rows, columns, masks, boxes)


class Collate:
    """Makes a batch of items, in a worker of the loader."""

    def __init__(self, config: TrainConfig) -> None:
        self._model = config.model
        self._min_size = config.data.min_size

    def __call__(self, items: Sequence[TrainingItem]) -> PackedBatch:
        """Pad the images to the largest of them, a multiple of 32, and build the targets on that."""
        sizes = [(item.sample.image.shape[0], item.sample.image.shape[1]) for item in items]
        height, width = padded(sizes)
        images = np.zeros((len(items), height, width, 3), dtype=np.uint8)
        for image, item, (h, w) in zip(images, items, sizes, strict=True):
            image[:h, :w] = item.sample.image
        learned = [self._targets(item, (height, width)) for item in items]
        targets = [levels for levels, _ in learned]
        return PackedBatch(
            TrainingBatch(
                images=torch.from_numpy(images),
                sizes=sizes,
                targets=targets,
                class_weights=[torch.stack(w) for w in zip(*(w for _, w in learned), strict=True)],
                counts=PositiveCounts.of(targets),
                names=[item.name for item in items],
            )
        )

    def _targets(
        self, item: TrainingItem, canvas: tuple[int, int]
    ) -> tuple[list[LevelTargets], list[Tensor]]:
        """The targets of each level, and (C, S, S) per level how much they count."""
        model, sample = self._model, item.sample
        boxes = tight_boxes(sample.masks)
        size = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        levels = [(size >= level.scale[0]) & (size <= level.scale[1]) for level in model.head.levels]
        taught = ~sample.ignored & (size >= self._min_size) & np.any(levels, axis=0)
        # Where two objects claim a cell, the later one gets it: small ones need it most.
        order = np.nonzero(taught)[0][np.argsort(-size[taught], kind="stable")]
        targets = build_targets(
            _annotations(sample, boxes, order, canvas),
            model.head.levels,
            classes=len(model.classes),
            mask_strides=model.mask_strides,
            pairs=model.architecture == "solov2",
        )
        unknowns = _Unknowns(
            item.exhaustive,
            list(zip(_possible_classes(sample)[~taught], boxes[~taught], strict=True)),
            torch.from_numpy(np.pad(sample.also_possible[order], ((0, 1), (0, 0)))),
        )
        weights = [
            self._class_weights(level, target, canvas, unknowns)
            for level, target in zip(model.head.levels, targets, strict=True)
        ]
        return targets, weights

    def _class_weights(
        self, level: LevelSpec, target: LevelTargets, canvas: tuple[int, int], unknowns: "_Unknowns"
    ) -> Tensor:
        """(C, S, S): 1 where the class of a cell is known, 0 where it is not."""
        weights = torch.zeros(len(self._model.classes), level.grid, level.grid)
        weights[sorted(unknowns.exhaustive)] = 1
        steps = np.array([level.grid / canvas[1], level.grid / canvas[0]] * 2)
        for classes, box in unknowns.ignored:
            x1, y1, x2, y2 = (box * steps).astype(int)
            weights[torch.from_numpy(classes), y1 : y2 + 1, x1 : x2 + 1] = 0
        weights[:, target.owners >= 0] = 1
        weights[unknowns.also_possible[target.owners].permute(2, 0, 1)] = 0
        return weights


@dataclass(frozen=True, slots=True)
class _Unknowns:
    """What is not known of an image."""

    exhaustive: frozenset[int]
    """Class ids of which every object is annotated."""
    ignored: Sequence[tuple[NDArray[np.bool_], NDArray[np.int64]]]
    """(C,) possible classes and box of objects that are neither taught nor counted as background."""
    also_possible: Tensor
    """(n + 1, C) bool: other classes that an object may be; the last row is for cells without an owner."""


def _annotations(
    sample: Sample, boxes: NDArray[np.int64], order: NDArray[np.int64], canvas: tuple[int, int]
) -> Annotations:
    """The objects ``order`` of a sample, on the canvas."""
    masks = np.zeros((len(order), *canvas), dtype=np.uint8)
    height, width = sample.image.shape[:2]
    for target, k in zip(masks, order, strict=True):
        target[:height, :width] = sample.masks[k]
    return Annotations(
        class_ids=torch.from_numpy(sample.class_ids[order]),
        boxes=torch.from_numpy(boxes[order]).float(),
        masks=torch.from_numpy(masks),
    )


def _possible_classes(sample: Sample) -> NDArray[np.bool_]:
    """(n, C): the classes that each object may be of, its own among them."""
    own = np.arange(sample.also_possible.shape[1]) == sample.class_ids[:, None]
    possible: NDArray[np.bool_] = sample.also_possible | own
    return possible


def tight_boxes(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n, H, W), none empty -> (n, 4) x1, y1, x2, y2, the latter two exclusive."""
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
class Packed:
    """Many tensors of any types and shapes as one.

    Every tensor that crosses a process takes a file descriptor, and every one that is copied to a GPU
    a call; a batch of 16 images has some 400 of them.
    """

    buffer: Tensor
    """(bytes,) uint8"""
    layout: tuple[tuple[torch.dtype, tuple[int, ...], int], ...]
    """Type, shape and first byte of each."""

    def tensors(self) -> list[Tensor]:
        """The tensors, as views of the buffer."""
        found = []
        for dtype, shape, start in self.layout:
            size = torch.Size(shape).numel() * dtype.itemsize
            found.append(self.buffer[start : start + size].view(dtype).view(shape))
        return found


def pack(tensors: Sequence[Tensor]) -> Packed:
    """Copy tensors of the host into one buffer."""
    layout, end = [], 0
    for tensor in tensors:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        layout.append((tensor.dtype, tuple(tensor.shape), start))
        end = start + tensor.numel() * tensor.element_size()
    packed = Packed(torch.empty(end, dtype=torch.uint8), tuple(layout))
    for target, tensor in zip(packed.tensors(), tensors, strict=True):
        target.copy_(tensor)
    return packed
