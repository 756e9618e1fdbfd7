"""Candidates: the (cell, class) pairs worth building a mask for, chosen before any mask exists."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamseg.models.postprocess.blocks import at_once, start_download, to_device

_STEPS = 4
"""Blocks that make a chunk of whole masks: each is made in a few steps, and lines are enlarged once."""


@dataclass(frozen=True, slots=True)
class Grids:
    """The cells of all levels, numbered level by level in row-major order: constants on a device."""

    sizes: tuple[int, ...]
    """S of each level."""
    levels: Tensor
    """(cells,) int64."""
    places: Tensor
    """(cells, 3) int64: row, column, and number in the level."""
    neighbours: Tensor
    """(3, cells) int64: the cell above, to the left, and above that one; at an edge a cell itself."""
    ends: Tensor
    """(L,) int64: the cells before the end of each level."""


@dataclass(frozen=True, slots=True)
class LevelCells:
    """Candidates on one level, n slots for each of B images."""

    rows: Tensor
    """(B, n) int64."""
    columns: Tensor
    """(B, n) int64."""
    numbers: Tensor
    """(B, n) int64: row * S + column."""
    places: Tensor
    """(B, n) int64: where their masks belong among B * N; B * N in a slot that is empty."""

    def chunks(self, *cells: Tensor, size: int) -> Iterator[tuple[Tensor, ...]]:
        """``cells`` (B, n) each and ``places``, flat, a few at a time; a mask takes ``size`` bytes."""
        batch, slots = self.places.shape
        if not slots:
            return
        some = at_once(self.places.device, batch * size // _STEPS)
        for *chunk, places in zip(*(x.split(some, dim=1) for x in (*cells, self.places)), strict=True):
            yield *chunk, places.flatten()


@dataclass(frozen=True, slots=True)
class Candidates:
    """The pairs of B images in N slots each, ordered by level, row, column, class; empty slots come last."""

    cells: Tensor
    """(B, N) int64 as in :class:`Grids`; 0 in an empty slot."""
    class_ids: Tensor
    """(B, N) int64."""
    scores: Tensor
    """(B, N) float32 class probability; 0 in an empty slot."""
    ends: Tensor
    """(B, L) int64 on the host: the candidates before the end of each level, once the device got there."""
    grids: Grids

    def used(self) -> "Candidates":
        """As many slots as the fullest image needs, at least 1. ``ends`` must have arrived."""
        return self._part(slice(None), max(1, int(self.ends[:, -1].max())))

    def pictures(self, which: slice) -> "Candidates":
        """Those of some of the images."""
        return self._part(which, self.cells.shape[1])

    def of_levels(self) -> list[LevelCells]:
        """One entry for each level, with as many slots as the image with the most candidates there needs."""
        batch, slots = self.cells.shape
        ends = self.ends.numpy()
        starts = np.hstack([np.zeros((batch, 1), np.int64), ends[:, :-1]])
        layout = [
            _level_slots(start, end - start, slots) for start, end in zip(starts.T, ends.T, strict=True)
        ]
        index = to_device(np.concatenate(layout, axis=1), self.cells.device)
        counts = [of_level.shape[1] for of_level in layout]
        chosen = self.grids.places[self.cells.flatten()[index[0]]].T.contiguous()
        split = zip(chosen.split(counts, dim=1), index[1].split(counts), strict=True)
        found = []
        for cells, places in split:
            rows, columns, numbers = cells.view(3, batch, -1).unbind()
            found.append(LevelCells(rows, columns, numbers, places.view(batch, -1)))
        return found

    def _part(self, which: slice, slots: int) -> "Candidates":
        mine = (which, slice(slots))
        return Candidates(
            self.cells[mine], self.class_ids[mine], self.scores[mine], self.ends[which], self.grids
        )


def make_grids(sizes: Sequence[int], device: torch.device | None = None) -> Grids:
    """The cells of grids of S x S."""
    ends = torch.tensor([s * s for s in sizes], device=device).cumsum(dim=0)
    levels = torch.cat([torch.full((s * s,), level, device=device) for level, s in enumerate(sizes)])
    numbers = torch.cat([torch.arange(s * s, device=device) for s in sizes])
    size = torch.tensor(list(sizes), device=device)[levels]
    rows, columns = numbers // size, numbers % size
    up = torch.where(rows > 0, size, 0)
    left = (columns > 0).long()
    own = torch.arange(len(numbers), device=device)
    neighbours = torch.stack((own - up, own - left, own - up - left))
    return Grids(tuple(sizes), levels, torch.stack((rows, columns, numbers), dim=1), neighbours, ends)


def _level_slots(starts: NDArray[np.int64], counts: NDArray[np.int64], slots: int) -> NDArray[np.int64]:
    """(2, B * n): for n slots on a level of each of B images, whose cell they show and where it belongs.

    ``starts`` and ``counts`` (B,) say which of an image's N = ``slots`` candidates lie on the level. An empty
    slot shows the cell of one that is not.
    """
    within = np.arange(counts.max())
    own = starts[:, None] + slots * np.arange(len(starts))[:, None] + within
    used = within < counts[:, None]
    shown = np.where(used, own, own[counts.argmax(), :1] if len(within) else 0)
    return np.stack([shown.ravel(), np.where(used, own, len(starts) * slots).ravel()])


def flat_cells(maps: Sequence[Tensor]) -> Tensor:
    """(B, C, S, S) per level -> (B, cells, C)."""
    return torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in maps], dim=1)


def points_nms(scores: Tensor, neighbours: Tensor) -> Tensor:
    """Zero the cells that are not the maximum of themselves and their upper and left neighbours.

    ``scores`` is (B, cells, C) after the sigmoid, ``neighbours`` that of :class:`Grids`. Cells of equal
    score are both kept, as in the published code.
    """
    up, left, corner = (scores.index_select(1, cells) for cells in neighbours)
    return scores.masked_fill(scores < up.maximum(left).maximum(corner), 0.0)


def select_candidates(
    class_logits: Sequence[Tensor],
    grids: Grids,
    *,
    threshold: float,
    limit: int,
    class_ids: Tensor | None = None,
) -> Candidates:
    """Pick the pairs of each of B images with a probability strictly above ``threshold``.

    ``class_logits`` holds (B, C, S, S) per level. Points NMS comes first; there are ``limit`` slots for each
    image, or one for each pair if those are fewer, for the most probable pairs. ``class_ids`` (n,) restricts
    the choice to those classes. The host does not wait for the device.
    """
    logits = flat_cells(class_logits)
    if class_ids is not None:
        logits = logits.index_select(2, class_ids)
    classes = logits.shape[2]
    scores = points_nms(logits.float().sigmoid(), grids.neighbours).flatten(1)
    best, pairs = scores.topk(min(limit, scores.shape[1]), sorted=False)
    nothing = scores.shape[1]
    pairs = torch.where(best > threshold, pairs, nothing).sort(dim=1).values
    ends = torch.searchsorted(pairs, (grids.ends * classes).repeat(len(pairs), 1))
    empty = pairs == nothing
    pairs = pairs.masked_fill(empty, 0)
    chosen = scores.gather(1, pairs).masked_fill(empty, 0.0)
    cells = pairs // classes
    ids = pairs - cells * classes
    return Candidates(
        cells, ids if class_ids is None else class_ids[ids], chosen, start_download(ends), grids
    )
