"""What every head's output can do, and the masks of chosen cells made from it.

The heads differ in how a cell's mask is coded: one channel per cell (SOLO), a product of two
channels (Decoupled SOLO), a dot product with the cell's own kernel (SOLOv2). All of them can give
the masks of chosen cells alone; nothing here ever holds the masks of a whole grid.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from streamseg.models.candidates import Candidates

_CHUNK = 128
"""Masks computed at once: 128 masks of 200 x 336 are 34 MB in fp32, and each step holds up to three
copies. Smaller pieces do not save memory: malloc keeps them (422 MB at the peak with pieces of 64, 314
with these), and the products of SOLOv2 take longer (1.8 times with 32)."""


class HeadOutput(Protocol):
    """Logits of B images; L levels, level l has a grid of S_l x S_l cells, C classes."""

    @property
    def class_logits(self) -> list[Tensor]:
        """(B, C, S_l, S_l) per level."""

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of the finest level's masks."""

    def soft_masks(
        self, level: int, image: int, rows: Tensor, columns: Tensor, *, size: Sequence[int] | None = None
    ) -> Tensor:
        """Masks of n >= 1 cells of one level of one image, float32 in [0, 1].

        (n, h, w) at the level's own resolution, or brought to ``size`` as the published code does.
        """

    def mask_tensors(self) -> list[Tensor]:
        """Every tensor that masks are made of."""


def candidate_masks(output: HeadOutput, image: int, candidates: Candidates) -> Tensor:
    """Soft masks of the candidates of one image, in their order: (N, h, w) float32 in [0, 1]."""
    size = output.mask_size
    masks = torch.empty((len(candidates), *size), device=output.class_logits[0].device)
    done = 0
    for level, cells in enumerate(candidates.cells_by_level()):
        for chunk in cells.split(_CHUNK) if len(cells) else ():
            end = done + len(chunk)
            masks[done:end] = output.soft_masks(level, image, chunk[:, 0], chunk[:, 1], size=size)
            done = end
    return masks
