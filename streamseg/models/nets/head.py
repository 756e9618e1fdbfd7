"""What every head's output can do, and the masks of chosen cells made from it.

The heads differ in how a cell's mask is coded: one channel per cell (SOLO), a product of two
channels (Decoupled SOLO), a dot product with the cell's own kernel (SOLOv2). All of them can give
the masks of chosen cells alone; nothing here ever holds the masks of a whole grid.
"""

from collections.abc import Sequence
from typing import Protocol, Self

import torch
from torch import Tensor

from streamseg.models.postprocess.candidates import Candidates, flat_cells


class HeadOutput(Protocol):
    """Logits of B images; L levels, level l has a grid of S_l x S_l cells, C classes."""

    @property
    def class_logits(self) -> list[Tensor]:
        """(B, C, S_l, S_l) per level."""

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of the finest level's masks."""

    def soft_masks(self, level: int, image: int, rows: Tensor, columns: Tensor) -> Tensor:
        """Masks of n >= 1 cells of one level of one image, (n, h, w) float32 in 0..1, of the level's size."""

    def write_masks(self, out: Tensor, candidates: Candidates) -> None:
        """Fill ``out`` (B * N + 1, h, w), of ``mask_size``, with the soft masks of B images' candidates.

        As ``soft_masks``, brought to that size as the published code does, but without gradients. The last
        one is room for what belongs nowhere, and an empty slot may hold anything.
        """

    def pictures(self, which: slice) -> Self:
        """The output of some of the images."""

    def mask_tensors(self) -> list[Tensor]:
        """Every tensor that masks are made of."""


def candidate_masks(output: HeadOutput, candidates: Candidates) -> Tensor:
    """Soft masks of B images' candidates: (B, N, h, w) float32 in [0, 1], anything in an empty slot."""
    batch, slots = candidates.cells.shape
    masks = torch.empty((batch * slots + 1, *output.mask_size), device=candidates.cells.device)
    output.write_masks(masks, candidates)
    return masks[:-1].view(batch, slots, *output.mask_size)


def pick(x: Tensor, index: Tensor) -> Tensor:
    """(B, M, ...) and (B, N) -> (B, N, ...): chosen entries of each image."""
    image = torch.arange(len(x), device=x.device)[:, None]
    chosen: Tensor = x[image, index]
    return chosen


def pick_cells(maps: Sequence[Tensor], cells: Tensor) -> Tensor:
    """What ``cells`` (B, N), numbered over the levels, hold in ``maps``, (B, C, S, S) each: (B, N, C)."""
    return pick(flat_cells(maps), cells)


def of_cells(maps: Sequence[Tensor], image: int, cells: Sequence[Tensor]) -> Tensor:
    """What N cells of one image hold in ``maps``, one (B, C, S_l, S_l) per level: (N, C).

    ``cells`` holds (n, 2) rows and columns per level.
    """
    return torch.cat([x[image, :, c[:, 0], c[:, 1]].T for x, c in zip(maps, cells, strict=True)])
