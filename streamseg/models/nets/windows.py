"""Where a cell's mask may reach: a window along x plus one along y, both made from the cell's box.

A dot product with the mask feature says what looks like the object; it cannot tell two alike objects
apart by their place. The window can: beyond the cell's box it falls steeply, and inside it adds a
profile that the cell chooses itself. Being a sum of a function of x and one of y it costs next to
nothing, as Decoupled SOLO's masks do (there it is a product of two sigmoids).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from streamseg.models.nets.constants import once_per_size
from streamseg.models.spec import LevelSpec

SPAN = 1.0
"""The knots of a profile lie from -SPAN to SPAN, in boxes from the box's middle; its edges are at +-0.5."""
_MARGIN = 0.55
"""The window falls beyond this, in boxes from the middle: a box may be a tenth too small."""
_FALL = 20.0
"""How much it falls in the length of a box."""
_START = 1.0
"""Logit inside a box while profiles are untrained: above 0, so that the box counts as object."""


class Windows(NamedTuple):
    """The windows of N cells of masks of h x w pixels."""

    x: Tensor
    """(N, w) float32, added to the mask's logits in every row."""
    y: Tensor
    """(N, h) float32, added in every column."""


def box_distances(logits: Tensor, *, bins: int) -> Tensor:
    """(B, 4 * bins, S, S) logits -> (B, 4, S, S) float32 distances to left, top, right and bottom in strides.

    The mean of 0 .. bins - 1 under a softmax (Li et al. 2020, "Generalized Focal Loss", equation 6).
    """
    batch, _, rows, columns = logits.shape
    weights = logits.float().view(batch, 4, bins, rows, columns).softmax(dim=2)
    return (weights * _steps(bins, device=logits.device)).sum(dim=2)


def cell_boxes(distances: Tensor, level: LevelSpec, canvas: tuple[int, int]) -> Tensor:
    """(B, 4, S, S) distances in strides -> (B, 4, S, S) boxes x1, y1, x2, y2 in pixels of ``canvas`` (H, W).

    They are measured from the cell's middle less half a stride: NanoDet-Plus puts pixel k of a map at
    k strides.
    """
    x, y = _middles(level.grid, level.stride, *canvas, device=distances.device)
    left, top, right, bottom = (distances * level.stride).unbind(dim=1)
    return torch.stack((x - left, y - top, x + right, y + bottom), dim=1)


@once_per_size
def _steps(bins: int, *, device: torch.device) -> Tensor:
    """(bins, 1, 1)."""
    return torch.arange(bins, device=device, dtype=torch.float32)[:, None, None]


@once_per_size
def _middles(grid: int, stride: int, height: int, width: int, *, device: torch.device) -> Tensor:
    """(2, S, S): x and y."""
    middles = torch.arange(grid, device=device, dtype=torch.float32) + 0.5
    x = (middles * (width / grid) - stride / 2)[None, :].expand(grid, grid)
    y = (middles * (height / grid) - stride / 2)[:, None].expand(grid, grid)
    return torch.stack((x, y))


def make_windows(cells: Tensor, size: tuple[int, int], *, stride: int) -> Windows:
    """Windows of masks of ``size`` (h, w), ``stride`` canvas pixels per mask pixel.

    ``cells`` (N, 4 + 2K) float32 holds boxes in canvas pixels and profiles of K values along x and y.
    """
    low, high = cells[:, :2, None], cells[:, 2:4, None]
    profiles = cells[:, 4:].unflatten(1, (2, -1))
    # Along x and y at once, as far as the longer side reaches.
    pixels = (torch.arange(max(size), device=cells.device, dtype=torch.float32) + 0.5) * stride
    place = (pixels - 0.5 * (low + high)) / (high - low).clamp(min=2.0 * stride)
    knots = torch.linspace(-SPAN, SPAN, profiles.shape[2], device=cells.device)
    step = 2 * SPAN / (profiles.shape[2] - 1)
    hats = (1 - (place.clamp(-SPAN, SPAN)[..., None] - knots).abs() / step).clamp(min=0)
    inner = (hats @ profiles[..., None])[..., 0]
    window = inner + 0.5 * _START - _FALL * (place.abs() - _MARGIN).clamp(min=0)
    return Windows(window[:, 0, : size[1]], window[:, 1, : size[0]])
