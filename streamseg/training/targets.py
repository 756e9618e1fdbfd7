"""Which grid cell learns which object (SOLO paper, "Label Assignment")."""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """What one level of the head shall say about one image (p positives)."""

    class_ids: Tensor
    """(S, S) int64; the number of classes stands for background."""
    owners: Tensor
    """(S, S) int64: index of the object that gives a cell its class, -1 for none."""
    rows: Tensor
    """(p,)"""
    columns: Tensor
    """(p,)"""
    masks: Tensor
    """(p, h, w) bool: what the mask of cell rows[i], columns[i] shall be."""

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
    filled = truth.masks.flatten(1).any(dim=1)
    centres = centres_of_mass(truth.masks)
    targets = []
    for level, mask_stride in zip(levels, mask_strides, strict=True):
        on_level = (size >= level.scale[0]) & (size <= level.scale[1]) & filled
        regions = [
            (k, _centre_cells(truth, centres, k, grid=level.grid))
            for k in on_level.nonzero().flatten().tolist()
        ]
        owners = torch.full((level.grid, level.grid), -1, dtype=torch.int64)
        for k, cells in regions:
            owners[cells[:, 0], cells[:, 1]] = k
        positives = _pairs(regions) if pairs else _owned(owners)
        targets.append(_level_targets(truth, owners, positives, mask_stride, classes=classes))
    return targets


def centres_of_mass(masks: Tensor) -> Tensor:
    """(n, H, W) -> (n, 2) x, y: mean pixel index (0-based, without the half pixel)."""
    weights = masks.float()
    total = weights.sum(dim=(1, 2)).clamp(min=1)
    y = (weights.sum(dim=2) @ torch.arange(masks.shape[1], dtype=torch.float32)) / total
    x = (weights.sum(dim=1) @ torch.arange(masks.shape[2], dtype=torch.float32)) / total
    return torch.stack((x, y), dim=1)


def _centre_cells(truth: Annotations, centres: Tensor, k: int, *, grid: int) -> Tensor:
    """(n, 2) int64 row, column of the cells that the centre region of object k touches, row-major."""
    height, width = truth.masks.shape[-2:]
    half_width, half_height = 0.5 * CENTRE_FRACTION * (truth.boxes[k, 2:] - truth.boxes[k, :2])
    left, right = _cell_range(centres[k, 0], half_width, extent=width, grid=grid)
    top, bottom = _cell_range(centres[k, 1], half_height, extent=height, grid=grid)
    return torch.cartesian_prod(torch.arange(top, bottom + 1), torch.arange(left, right + 1))


def _cell_range(centre: Tensor, half: Tensor, *, extent: int, grid: int) -> tuple[int, int]:
    """First and last cell of the centre region, at most one cell from the centre's."""

    def cell(position: Tensor) -> int:
        # trunc((v / extent) / (1 / S)) in float32: on exact cell borders a plain v * S / extent
        # rounds to the other side in a third of the cases.
        step = torch.tensor(1.0, dtype=torch.float32) / grid
        return int(((position.float() / extent) / step).trunc())

    middle = cell(centre)
    first = max(0, cell(centre - half), middle - 1)
    last = min(grid - 1, cell(centre + half), middle + 1)
    return first, last


def _owned(owners: Tensor) -> tuple[Tensor, Tensor]:
    """Cells (p, 2) that have an owner, and who it is (p,)."""
    cells = (owners >= 0).nonzero()
    return cells, owners[cells[:, 0], cells[:, 1]]


def _pairs(regions: Sequence[tuple[int, Tensor]]) -> tuple[Tensor, Tensor]:
    """Cells (p, 2) of all objects, one object after the other, and whose they are (p,)."""
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
    small = shrink_masks(truth.masks[distinct], mask_stride)
    return LevelTargets(class_ids, owners, cells[:, 0], cells[:, 1], small[inverse])


def shrink_masks(masks: Tensor, factor: int) -> Tensor:
    """(n, H, W) uint8 -> (n, H / factor, W / factor) bool: bilinear, at least one half."""
    height, width = (side // factor for side in masks.shape[-2:])
    if not len(masks):
        return torch.zeros((0, height, width), dtype=torch.bool)
    small = F.interpolate(masks[None].float(), size=(height, width), mode="bilinear", align_corners=False)
    return small[0] >= 0.5
