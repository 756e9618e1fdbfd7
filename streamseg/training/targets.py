"""Which grid cells learn which object (SOLO paper, "Label Assignment")."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from streamseg.models.spec import LevelSpec

CENTRE_FRACTION = 0.2
"""The centre region is this part of the box in each direction (paper: epsilon)."""


@dataclass(frozen=True, slots=True)
class Annotations:
    """Ground truth of one image on the padded canvas (n objects)."""

    class_ids: Tensor
    """(n,) int64, 0-based."""
    boxes: Tensor
    """(n, 4) float x1, y1, x2, y2."""
    masks: Tensor
    """(n, H, W) uint8 0/1, H x W the canvas."""


@dataclass(frozen=True, slots=True)
class LevelTargets:
    """What one level of the head learns from one image (p positives)."""

    class_ids: Tensor
    """(S, S) int64; the number of classes stands for background."""
    owners: Tensor
    """(S, S) int64: index of the object that gives a cell its class, -1 without one."""
    rows: Tensor
    """(p,) int64: rows of the positive cells in the grid."""
    columns: Tensor
    """(p,) int64: their columns."""
    masks: Tensor
    """(p, h, w) bool: the mask that cell rows[i], columns[i] learns."""
    boxes: Tensor
    """(p, 4) float32 x1, y1, x2, y2 in canvas pixels: of those masks."""

    @property
    def cells(self) -> Tensor:
        """Number of distinct positive cells, 0-dimensional."""
        return (self.owners >= 0).sum()


def build_targets(
    truth: Annotations, levels: Sequence[LevelSpec], *, classes: int, mask_strides: Sequence[int], pairs: bool
) -> list[LevelTargets]:
    """Assign the objects of one image to the cells of every level.

    An object belongs to each level whose scale range holds the root of its box area, and there to
    the cells, at most 3 x 3, that its centre region touches. A later object takes a cell's class
    from an earlier one. Objects with empty masks are passed over.

    Without ``pairs`` a cell learns the mask of the object that gives it its class, and the positives
    are in row-major order (SOLO and Decoupled SOLO). With ``pairs`` each (object, cell) pair is a
    positive, object by object: a cell learns the masks of all its objects (SOLOv2).
    """
    size = ((truth.boxes[:, 2] - truth.boxes[:, 0]) * (truth.boxes[:, 3] - truth.boxes[:, 1])).sqrt()
    centres = centres_of_mass(truth.masks)
    filled = torch.from_numpy(np.any(truth.masks.numpy(), axis=(1, 2)))
    targets = []
    for level, mask_stride in zip(levels, mask_strides, strict=True):
        on_level = (size >= level.scale[0]) & (size <= level.scale[1]) & filled
        regions = _regions(truth, centres, on_level, grid=level.grid)
        owners = torch.full((level.grid, level.grid), -1, dtype=torch.int64)
        for k, cells in regions:
            owners[cells[:, 0], cells[:, 1]] = k
        positives = _pairs(regions) if pairs else _owned(owners)
        targets.append(_level_targets(truth, owners, positives, mask_stride, classes=classes))
    return targets


def centres_of_mass(masks: Tensor) -> Tensor:
    """(n, H, W) 0/1 -> (n, 2) x, y: mean pixel index (0-based, without the half pixel)."""
    rows, columns = _sums(masks, along=1), _sums(masks, along=0)
    total = rows.sum(dim=1).clamp(min=1)
    y = (rows @ torch.arange(masks.shape[1], dtype=torch.float32)) / total
    x = (columns @ torch.arange(masks.shape[2], dtype=torch.float32)) / total
    return torch.stack((x, y), dim=1)


def _sums(masks: Tensor, *, along: Literal[0, 1]) -> Tensor:
    """(n, H, W) -> (n, W) or, along 1, (n, H) float32. torch's own sum took 70 times as long."""
    sums = torch.zeros(len(masks), masks.shape[1 if along == 1 else 2])
    for target, mask in zip(sums.numpy(), masks.to(torch.uint8).numpy(), strict=True):
        target[:] = cv2.reduce(mask, along, cv2.REDUCE_SUM, dtype=cv2.CV_32F).ravel()
    return sums


def _regions(truth: Annotations, centres: Tensor, chosen: Tensor, *, grid: int) -> list[tuple[int, Tensor]]:
    """The objects ``chosen`` (n,) bool, and (m, 2) row, column of the cells that their centre regions touch.

    Cells are in row-major order.
    """
    height, width = truth.masks.shape[-2:]
    half = 0.5 * CENTRE_FRACTION * (truth.boxes[:, 2:] - truth.boxes[:, :2])[chosen]
    left, right = _cell_ranges(centres[chosen, 0], half[:, 0], extent=width, grid=grid)
    top, bottom = _cell_ranges(centres[chosen, 1], half[:, 1], extent=height, grid=grid)
    return [
        (k, torch.cartesian_prod(torch.arange(t, b + 1), torch.arange(a, z + 1)))
        for k, t, b, a, z in zip(chosen.nonzero().flatten().tolist(), top, bottom, left, right, strict=True)
    ]


def _cell_ranges(centres: Tensor, half: Tensor, *, extent: int, grid: int) -> tuple[list[int], list[int]]:
    """First and last cells of the centre regions, at most one cell from the centre's."""
    # trunc((v / extent) / (1 / S)) in float32: on exact cell borders a plain v * S / extent rounds to
    # the other side in a third of the cases.
    step = torch.tensor(1.0, dtype=torch.float32) / grid
    middle, low, high = (
        ((v.float() / extent) / step).trunc().long() for v in (centres, centres - half, centres + half)
    )
    first = torch.maximum(low, middle - 1).clamp(min=0)
    last = torch.minimum(high, middle + 1).clamp(max=grid - 1)
    return first.tolist(), last.tolist()


def _owned(owners: Tensor) -> tuple[Tensor, Tensor]:
    """The cells (p, 2) that have an owner, and the owners (p,)."""
    cells = (owners >= 0).nonzero()
    return cells, owners[cells[:, 0], cells[:, 1]]


def _pairs(regions: Sequence[tuple[int, Tensor]]) -> tuple[Tensor, Tensor]:
    """The cells (p, 2) of all objects, one object after the other, and these objects (p,)."""
    none = torch.zeros((0, 2), dtype=torch.int64)
    cells = torch.cat([none, *(cells for _, cells in regions)])
    owners = [torch.full((len(cells),), k) for k, cells in regions]
    return cells, torch.cat([none[:, 0], *owners])


def _level_targets(
    truth: Annotations, owners: Tensor, positives: tuple[Tensor, Tensor], mask_stride: int, *, classes: int
) -> LevelTargets:
    class_ids = torch.full_like(owners, classes)
    taken = owners >= 0
    class_ids[taken] = truth.class_ids[owners[taken]]
    cells, objects = positives
    distinct, inverse = objects.unique(return_inverse=True)
    small = shrink_masks(truth.masks, mask_stride, chosen=distinct)
    return LevelTargets(
        class_ids, owners, cells[:, 0], cells[:, 1], small[inverse], truth.boxes[objects].float()
    )


def shrink_masks(masks: Tensor, factor: int, *, chosen: Tensor) -> Tensor:
    """(n, H, W) uint8 -> (len(chosen), H / factor, W / factor) bool: bilinear, at least one half."""
    height, width = masks.shape[-2:]
    if factor % 2 or height % factor or width % factor:
        return _interpolate(masks[chosen], (height // factor, width // factor)) >= 0.5
    # By an even factor bilinear is the mean of the four pixels in the middle. Copying them, and not
    # whole masks as floats, is ten times as fast.
    first = factor // 2 - 1
    corners = [masks[:, y::factor, x::factor][chosen] for y in (first, first + 1) for x in (first, first + 1)]
    return (corners[0] + corners[1] + corners[2] + corners[3]) >= 2


def _interpolate(masks: Tensor, size: tuple[int, int]) -> Tensor:
    if not len(masks):
        return torch.zeros((0, *size))
    return F.interpolate(masks[None].float(), size=size, mode="bilinear", align_corners=False)[0]
