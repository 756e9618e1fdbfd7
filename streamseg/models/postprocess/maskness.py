"""How good a mask is, and the score that a candidate gets from it (SOLO paper, "Inference")."""

import torch
from torch import Tensor

from streamseg.models.postprocess.blocks import at_once

_PARTS = 4
"""Parts of the masks in :func:`measure`: of k parts, (k + 1) / 2k of all products are computed."""
_MANY = 128
"""From so many masks on products are computed in parts."""


def measure(soft_masks: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """What the pixels above the threshold say of N masks of each of B images, (B, N, h, w) float32.

    Returns (B, N, N), how many of them two masks share (on the diagonal: a mask has), whole numbers that are
    exact up to 2^24; and (B, N), the sum of their soft values.
    """
    batch, count = soft_masks.shape[:2]
    device = soft_masks.device
    shared = torch.zeros((batch, count, count), device=device)
    blocks = soft_masks.flatten(2).split(at_once(device, 4 * batch * count), dim=2)
    totals = torch.empty((len(blocks), batch, count), device=device)
    for soft, total in zip(blocks, totals.unbind(), strict=True):
        # A comparison can write floats, which is faster than to convert its booleans.
        pixels = torch.gt(soft, threshold, out=torch.empty_like(soft))
        torch.linalg.vecdot(pixels, soft, out=total)
        _add_products(shared, pixels)
    return shared, totals.sum(dim=0)


def _add_products(shared: Tensor, pixels: Tensor) -> None:
    """Add the products of all pairs of masks, of some of their pixels (B, N, P), to ``shared`` (B, N, N)."""
    if pixels.is_cuda:
        # 0 and 1 are exact in half precision, and the sums are float32.
        pixels = pixels.half()
        shared += torch.bmm(pixels, pixels.mT, out_dtype=torch.float32)
    elif pixels.shape[1] < _MANY:
        shared.baddbmm_(pixels, pixels.mT)
    else:
        _add_in_parts(shared, pixels)


def _add_in_parts(shared: Tensor, pixels: Tensor) -> None:
    """As :func:`_add_products`; the product of masks j and i is that of i and j."""
    step = -(-pixels.shape[1] // _PARTS)
    for start in range(0, pixels.shape[1], step):
        part, after = slice(start, start + step), slice(start + step, None)
        product = torch.bmm(pixels[:, part], pixels[:, start:].mT)
        shared[:, part, start:] += product
        shared[:, after, part] += product[:, :, product.shape[1] :].mT


def score_masks(probabilities: Tensor, area: Tensor, total: Tensor, strides: Tensor) -> Tensor:
    """Class probability times maskness, the mean soft value inside the mask; -1 for noise.

    Noise is a mask of no more pixels than its level's stride. ``area`` holds the pixels above the threshold,
    ``total`` the sum of their values; all are of one shape, (N,) or (B, N).
    """
    return (probabilities * total / area.clamp(min=1)).masked_fill(area <= strides, -1.0)
