"""Matrix NMS (SOLOv2 paper, "Matrix NMS"): all scores are decayed at once by the overlaps."""

from typing import Literal

import torch
from torch import Tensor

_TINY = 1e-6
_PIXELS = 8192
"""Pixels of each mask that are worked on at once."""
_PARTS = 4
"""Parts of the masks in :func:`intersections`: of k parts, (k + 1) / 2k of all products are computed."""


def matrix_nms(
    shared: Tensor,
    class_ids: Tensor,
    scores: Tensor,
    *,
    kernel: Literal["gaussian", "linear"],
    sigma: float,
    overlap: Literal["class", "any"] = "class",
) -> Tensor:
    """Decay the scores of masks that overlap a better one of their class, or of any.

    ``shared`` (N, N) as of :func:`intersections`, ``class_ids`` (N,), ``scores`` (N,) float, all in
    descending order of score. Returns (N,): ``scores`` times a factor in [0, 1], finite also for exact
    duplicates.
    """
    if not len(scores):
        return scores
    over = _overlap_with_better(shared, class_ids if overlap == "class" else torch.zeros_like(class_ids))
    # How much the better one of a pair is itself overlapped: a mask that is likely to be suppressed
    # shall not suppress others.
    compensation = over.amax(dim=0).unsqueeze(1)
    if kernel == "gaussian":
        decay = torch.exp(-sigma * (over.square() - compensation.square()))
    else:
        decay = (1 - over) / (1 - compensation).clamp(min=_TINY)
    return scores * decay.amin(dim=0)


def measure(soft_masks: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Of each mask (N, h, w) the pixels above the threshold, and the sum of their values: (N,) float32."""
    area = torch.zeros(len(soft_masks), device=soft_masks.device)
    total = area.clone()
    for soft in soft_masks.flatten(1).split(_PIXELS, dim=1):
        pixels = torch.gt(soft, threshold, out=torch.empty_like(soft))
        area += pixels.sum(dim=1)
        total += torch.linalg.vecdot(pixels, soft)
    return area, total


def intersections(soft_masks: Tensor, order: Tensor, threshold: float) -> Tensor:
    """Pixels that two of the masks (N, h, w) share above the threshold, exact up to 2^24.

    ``order`` (n,) names the masks. (n, n) float32, only i <= j counts.
    """
    shared = torch.zeros((len(order), len(order)), device=soft_masks.device)
    step = max(1, -(-len(order) // _PARTS))
    for piece in soft_masks.flatten(1).split(_PIXELS, dim=1):
        soft = piece[order]
        # A comparison can write floats, which is faster than to convert its booleans.
        pixels = torch.gt(soft, threshold, out=soft)
        for start in range(0, len(order), step):
            shared[start : start + step, start:].addmm_(pixels[start : start + step], pixels[start:].T)
    return shared


def _overlap_with_better(shared: Tensor, class_ids: Tensor) -> Tensor:
    """(N, N): IoU of mask i with mask j where i < j and both have one class, 0 elsewhere."""
    area = shared.diagonal()
    union = area[:, None] + area[None, :] - shared
    same_class = class_ids[:, None] == class_ids[None, :]
    return (shared / union.clamp(min=_TINY) * same_class).triu(diagonal=1)
