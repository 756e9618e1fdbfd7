"""What every head's output can do, and the masks of chosen cells made from it.

The heads differ in how a cell's mask is coded: one channel per cell (SOLO), a product of two
channels (Decoupled SOLO), a dot product with the cell's own kernel (SOLOv2). All of them can give
the masks of chosen cells alone; nothing here ever holds the masks of a whole grid.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from streamseg.models.postprocess.candidates import Candidates

CHUNK = 32
"""Masks computed at once: 32 masks of 200 x 336 are 9 MB in fp32, and each step holds up to three copies."""


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

    def write_masks(self, out: Tensor, image: int, cells: Sequence[Tensor]) -> None:
        """Fill ``out`` (N, h, w), of ``mask_size``, with the soft masks of N cells of one image.

        ``cells`` holds (n, 2) rows and columns per level. As ``soft_masks``, but without gradients.
        """

    def mask_tensors(self) -> list[Tensor]:
        """Every tensor that masks are made of."""


def candidate_masks(output: HeadOutput, image: int, candidates: Candidates) -> Tensor:
    """Soft masks of the candidates of one image, in their order: (N, h, w) float32 in [0, 1]."""
    masks = torch.empty((len(candidates), *output.mask_size), device=output.class_logits[0].device)
    if len(candidates):
        output.write_masks(masks, image, candidates.cells_by_level())
    return masks


def of_cells(maps: Sequence[Tensor], image: int, cells: Sequence[Tensor]) -> Tensor:
    """What N cells of one image hold in ``maps``, one (B, C, S_l, S_l) per level: (N, C).

    ``cells`` holds (n, 2) rows and columns per level.
    """
    return torch.cat([x[image, :, c[:, 0], c[:, 1]].T for x, c in zip(maps, cells, strict=True)])


def copy_flat(out: Tensor, masks: Tensor) -> None:
    """Copy (n, h, w) masks, which may be in channels-last order: fast as a transposition of a matrix."""
    out.flatten(1).copy_(masks.flatten(1))
