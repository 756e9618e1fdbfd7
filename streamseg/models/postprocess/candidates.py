"""Candidates: the (cell, class) pairs worth building a mask for, chosen before any mask exists."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, slots=True)
class Candidates:
    """N (cell, class) pairs of one image, ordered by level, row, column, class."""

    levels: Tensor
    """(N,) int64."""
    cells: Tensor
    """(N, 2) int64: row, column."""
    class_ids: Tensor
    """(N,) int64."""
    scores: Tensor
    """(N,) float32 class probability."""
    counts: tuple[int, ...]
    """Candidates on each level, known on the host."""

    def __len__(self) -> int:
        return len(self.scores)

    def cells_by_level(self) -> tuple[Tensor, ...]:
        """``cells``, one tensor per level."""
        per_level: tuple[Tensor, ...] = self.cells.split(self.counts)
        return per_level


def points_nms(scores: Tensor) -> Tensor:
    """Zero the cells that are not the maximum of themselves and their upper and left neighbours.

    ``scores`` is (N, C, S, S) after the sigmoid. Cells of equal score are both kept, as in the
    published code.
    """
    peak = F.max_pool2d(scores, kernel_size=2, stride=1, padding=1)[:, :, :-1, :-1]
    return scores.masked_fill(peak != scores, 0.0)


def select_candidates(
    class_logits: Sequence[Tensor], *, threshold: float, limit: int, class_ids: Sequence[int] | None = None
) -> list[Candidates]:
    """Pick the pairs of each of B images with a probability strictly above ``threshold``.

    ``class_logits`` holds (B, C, S, S) per level. Points NMS comes first; at most ``limit`` pairs of
    an image are kept, the most probable ones. ``class_ids`` restricts the choice to those classes.
    The host waits for the device twice for a whole batch, for the number of pairs and for their spread over
    images and levels, and once more for each image that has more than ``limit``.
    """
    # Of every level only a bit per pair is kept: with 1,203 classes copies of the probabilities took more
    # memory than the masks.
    eligible = torch.cat([_eligible(logits, threshold) for logits in class_logits], dim=1)
    batch, _, classes = eligible.shape
    if class_ids is not None:
        unwanted = torch.ones(classes, dtype=torch.bool, device=eligible.device)
        unwanted[list(class_ids)] = False
        eligible.masked_fill_(unwanted, False)
    image, cell, class_id = eligible.nonzero(as_tuple=True)
    all_levels, all_cells = cell_table([logits.shape[-1] for logits in class_logits], eligible.device)
    levels, cells = all_levels[cell], all_cells[cell]
    scores = _scores(class_logits, levels, image, class_id, cells)
    found = Candidates(levels, cells, class_id, scores, ())
    return _split(found, image, batch=batch, levels=len(class_logits), limit=limit)


def _eligible(logits: Tensor, threshold: float) -> Tensor:
    """(B, C, S, S) logits -> (B, S*S, C) bool: a probability above the threshold that survives points NMS."""
    kept = points_nms(logits.float().sigmoid()) > threshold
    return kept.flatten(2).transpose(1, 2)


def _scores(
    class_logits: Sequence[Tensor], levels: Tensor, image: Tensor, class_id: Tensor, cells: Tensor
) -> Tensor:
    """Probabilities (N,) of N pairs; which of them lie on a level need not be known on the host."""
    chosen = torch.zeros(len(levels), device=levels.device)
    for level, logits in enumerate(class_logits):
        rows, columns = cells.clamp(max=logits.shape[-1] - 1).unbind(dim=1)
        chosen = torch.where(levels == level, logits[image, class_id, rows, columns].float(), chosen)
    return chosen.sigmoid()


def _split(found: Candidates, image: Tensor, *, batch: int, levels: int, limit: int) -> list[Candidates]:
    """One :class:`Candidates` per image, of at most ``limit`` pairs."""
    counts = torch.bincount(image * levels + found.levels, minlength=batch * levels).view(batch, levels)
    split, start = [], 0
    for per_level in counts.tolist():
        end = start + sum(per_level)
        mine = slice(start, end)
        candidates = Candidates(
            found.levels[mine], found.cells[mine], found.class_ids[mine], found.scores[mine], tuple(per_level)
        )
        split.append(candidates if len(candidates) <= limit else _best(candidates, limit))
        start = end
    return split


def _best(candidates: Candidates, limit: int) -> Candidates:
    kept = candidates.scores.topk(limit).indices.sort().values
    levels = candidates.levels[kept]
    counts = torch.bincount(levels, minlength=len(candidates.counts)).tolist()
    return Candidates(
        levels, candidates.cells[kept], candidates.class_ids[kept], candidates.scores[kept], tuple(counts)
    )


def cell_table(grids: Sequence[int], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Level (cells,) and row and column (cells, 2) of every cell, level by level in row-major order."""
    sizes = torch.tensor([s * s for s in grids], device=device)
    levels = torch.arange(len(grids), device=device).repeat_interleave(
        sizes, output_size=sum(s * s for s in grids)
    )
    cells = torch.cat([torch.cartesian_prod(*[torch.arange(s, device=device)] * 2) for s in grids])
    return levels, cells
