"""How good a mask is, and the score that a candidate gets from it (SOLO paper, "Inference")."""

import torch
from torch import Tensor

PIXELS = 8192
"""Pixels of each mask that are worked on at once."""


def measure(soft_masks: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Of each mask (N, h, w) the pixels above the threshold, and the sum of their values: (N,) float32."""
    area = torch.zeros(len(soft_masks), device=soft_masks.device)
    total = area.clone()
    for soft in soft_masks.flatten(1).split(PIXELS, dim=1):
        pixels = torch.gt(soft, threshold, out=torch.empty_like(soft))
        area += pixels.sum(dim=1)
        total += torch.linalg.vecdot(pixels, soft)
    return area, total


def score_masks(probabilities: Tensor, area: Tensor, total: Tensor, strides: Tensor) -> Tensor:
    """Class probability times maskness, the mean soft value inside the mask; -1 for noise.

    Noise is a mask of no more pixels than its level's stride. ``area`` and ``total`` as of :func:`measure`;
    all are of one shape, (N,) or (B, N).
    """
    return (probabilities * total / area.clamp(min=1)).masked_fill(area <= strides, -1.0)
