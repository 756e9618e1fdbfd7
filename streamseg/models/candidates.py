"""Candidates: the (cell, class) pairs worth building a mask for, chosen before any mask exists."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Candidates:
    """N (cell, class) pairs of one image, ordered by level, row, column, class; all (N,)."""

    levels: Tensor
    rows: Tensor
    columns: Tensor
    class_ids: Tensor
    scores: Tensor
    """float32 class probability."""

    def __len__(self) -> int:
        return len(self.scores)

    def cells_by_level(self, levels: int) -> tuple[list[Tensor], list[Tensor]]:
        """Rows and columns, split into one tensor per level."""
        counts = torch.bincount(self.levels, minlength=levels).tolist()
        return list(self.rows.split(counts)), list(self.columns.split(counts))


def points_nms(scores: Tensor) -> Tensor:
    """Zero the cells that are not the maximum of themselves and their upper and left neighbours.

    ``scores`` is (N, C, S, S) after the sigmoid. Cells of equal score are both kept, as in the
    published code.
    """
    peak = F.max_pool2d(scores, kernel_size=2, stride=1, padding=1)[:, :, :-1, :-1]
    return scores * (peak == scores)


def select_candidates(
    class_scores: Sequence[Tensor], *, threshold: float, limit: int, class_ids: Tensor | None = None
) -> Candidates:
    """Pick the pairs of one image with a probability strictly above ``threshold``.

    ``class_scores`` holds (C, S, S) per level, after points NMS. At most ``limit`` are kept, the
    most probable ones. ``class_ids`` (K,) restricts the choice to those classes.
    """
    classes = class_scores[0].shape[0]
    flat = torch.cat([level.permute(1, 2, 0).reshape(-1, classes) for level in class_scores])
    eligible = flat > threshold
    if class_ids is not None:
        wanted = torch.zeros(classes, dtype=torch.bool, device=flat.device)
        wanted[class_ids] = True
        eligible &= wanted
    index = eligible.flatten().nonzero().squeeze(1)
    scores = flat.flatten()[index]
    if len(index) > limit:
        index = index[scores.topk(limit).indices.sort().values]
        scores = flat.flatten()[index]
    levels, rows, columns = _cell_table([s.shape[-1] for s in class_scores], flat.device)
    cell = index // classes
    return Candidates(levels[cell], rows[cell], columns[cell], index % classes, scores.float())


def _cell_table(grids: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Level, row and column of every cell, level by level in row-major order."""
    cells = [torch.arange(s * s, device=device) for s in grids]
    levels = torch.cat([torch.full_like(c, i) for i, c in enumerate(cells)])
    rows = torch.cat([c // s for c, s in zip(cells, grids, strict=True)])
    columns = torch.cat([c % s for c, s in zip(cells, grids, strict=True)])
    return levels, rows, columns
