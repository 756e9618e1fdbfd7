"""Matrix NMS (SOLOv2 paper, "Matrix NMS"): all scores are decayed at once by the overlaps."""

from typing import Literal

import torch
from torch import Tensor

from streamseg.models.postprocess.maskness import PIXELS

_TINY = 1e-6
_PARTS = 4
"""Parts of the masks in :func:`intersections`: of k parts, (k + 1) / 2k of all products are computed."""


def matrix_nms(
    shared: Tensor,
    class_ids: Tensor,
    scores: Tensor,
    *,
    kernel: Literal["gaussian", "linear"],
    sigma: float,
    overlap: Literal["class", "any"],
) -> Tensor:
    """Decay the scores of masks that overlap a better one of their class, or of any.

    ``shared`` (N, N) as of :func:`intersections`, ``class_ids`` (N,), ``scores`` (N,) float, all in
    descending order of score. Returns (N,): ``scores`` times a factor in [0, 1], finite also for exact
    duplicates. Each may have a first dimension of B images besides.
    """
    if not scores.shape[-1]:
        return scores
    ious = _ious_with_better(shared, class_ids if overlap == "class" else None)
    # How much the better one of a pair is itself overlapped: a mask that is likely to be suppressed
    # must not suppress others.
    compensation = ious.amax(dim=-2).unsqueeze(-1)
    if kernel == "gaussian":
        decay = torch.exp(-sigma * (ious.square() - compensation.square()))
    else:
        decay = (1 - ious) / (1 - compensation).clamp(min=_TINY)
    return scores * decay.amin(dim=-2)


def intersections(soft_masks: Tensor, order: Tensor, threshold: float) -> Tensor:
    """Pixels that two of the masks (N, h, w) share above the threshold, exact up to 2^24.

    ``order`` (n,) names the masks. (n, n) float32, only i <= j counts.
    """
    shared = torch.zeros((len(order), len(order)), device=soft_masks.device)
    step = max(1, -(-len(order) // _PARTS))
    for piece in soft_masks.flatten(1).split(PIXELS, dim=1):
        soft = piece[order]
        # A comparison can write floats, which is faster than to convert its booleans.
        pixels = torch.gt(soft, threshold, out=soft)
        for start in range(0, len(order), step):
            shared[start : start + step, start:].addmm_(pixels[start : start + step], pixels[start:].T)
    return shared


def _ious_with_better(shared: Tensor, class_ids: Tensor | None) -> Tensor:
    """(..., N, N): IoU of mask i with mask j where i < j, and where both have one class if classes are given.

    0 elsewhere.
    """
    area = shared.diagonal(dim1=-2, dim2=-1)
    ious = shared / (area[..., :, None] + area[..., None, :] - shared).clamp(min=_TINY)
    if class_ids is not None:
        ious = ious * (class_ids[..., :, None] == class_ids[..., None, :])
    return ious.triu(diagonal=1)
