"""Which grid cell learns which object (ECCV paper, section 3.1; numbers of the published code)."""

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
    """What one level of the head shall say about one image (p positive cells, row-major order)."""

    class_ids: Tensor
    """(S, S) int64; the number of classes stands for background."""
    owners: Tensor
    """(S, S) int64: index of the object that a cell learns, -1 for none."""
    rows: Tensor
    """(p,)"""
    columns: Tensor
    """(p,)"""
    masks: Tensor
    """(p, h, w) bool at half the level's stride."""


def build_targets(truth: Annotations, levels: Sequence[LevelSpec], *, classes: int) -> list[LevelTargets]:
    """Assign the objects of one image to the cells of every level.

    An object belongs to each level whose scale range holds the root of its box area, and there to
    the cells, at most 3 x 3, that its centre region touches. A later object takes a cell from an
    earlier one. Objects with empty masks are passed over.
    """
    size = ((truth.boxes[:, 2] - truth.boxes[:, 0]) * (truth.boxes[:, 3] - truth.boxes[:, 1])).sqrt()
    filled = truth.masks.flatten(1).any(dim=1)
    centres = _centres_of_mass(truth.masks)
    targets = []
    for level in levels:
        on_level = (size >= level.scale[0]) & (size <= level.scale[1]) & filled
        owners = _cell_owners(truth, centres, on_level.nonzero().flatten().tolist(), grid=level.grid)
        targets.append(_level_targets(truth, owners, level, classes=classes))
    return targets


def _centres_of_mass(masks: Tensor) -> Tensor:
    """(n, H, W) -> (n, 2) x, y: mean pixel index (0-based, without the half pixel)."""
    weights = masks.float()
    total = weights.sum(dim=(1, 2)).clamp(min=1)
    y = (weights.sum(dim=2) @ torch.arange(masks.shape[1], dtype=torch.float32)) / total
    x = (weights.sum(dim=1) @ torch.arange(masks.shape[2], dtype=torch.float32)) / total
    return torch.stack((x, y), dim=1)


def _cell_owners(truth: Annotations, centres: Tensor, objects: Sequence[int], *, grid: int) -> Tensor:
    """(S, S) int64: the object each cell learns, -1 for none."""
    height, width = truth.masks.shape[-2:]
    owners = torch.full((grid, grid), -1, dtype=torch.int64)
    half = 0.5 * CENTRE_FRACTION * (truth.boxes[:, 2:] - truth.boxes[:, :2])
    for k in objects:
        left, right = _cell_range(centres[k, 0], half[k, 0], extent=width, grid=grid)
        top, bottom = _cell_range(centres[k, 1], half[k, 1], extent=height, grid=grid)
        owners[top : bottom + 1, left : right + 1] = k
    return owners


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


def _level_targets(truth: Annotations, owners: Tensor, level: LevelSpec, *, classes: int) -> LevelTargets:
    class_ids = torch.full_like(owners, classes)
    taken = owners >= 0
    class_ids[taken] = truth.class_ids[owners[taken]]
    rows, columns = taken.nonzero(as_tuple=True)
    distinct, inverse = owners[taken].unique(return_inverse=True)
    small = shrink_masks(truth.masks[distinct], level.stride // 2)
    return LevelTargets(class_ids, owners, rows, columns, small[inverse])


def shrink_masks(masks: Tensor, factor: int) -> Tensor:
    """(n, H, W) uint8 -> (n, H / factor, W / factor) bool: bilinear, at least one half."""
    height, width = (side // factor for side in masks.shape[-2:])
    if not len(masks):
        return torch.zeros((0, height, width), dtype=torch.bool)
    small = F.interpolate(masks[None].float(), size=(height, width), mode="bilinear", align_corners=False)
    return small[0] >= 0.5
