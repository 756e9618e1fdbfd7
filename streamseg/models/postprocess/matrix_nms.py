"""Matrix NMS (SOLOv2 paper, "Matrix NMS"): all scores are decayed at once by the overlaps."""

from typing import Literal

import torch
from torch import Tensor

_TINY = 1e-6


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

    ``shared`` (N, N) holds the pixels that two masks share, ``class_ids`` (N,), ``scores`` (N,) float, all in
    descending order of score; only i <= j counts. Returns (N,): ``scores`` times a factor in [0, 1], finite
    also for exact duplicates. Each may have a first dimension of B images besides.
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


def _ious_with_better(shared: Tensor, class_ids: Tensor | None) -> Tensor:
    """(..., N, N): IoU of mask i with mask j where i < j, and where both have one class if classes are given.

    0 elsewhere.
    """
    area = shared.diagonal(dim1=-2, dim2=-1)
    ious = shared / (area[..., :, None] + area[..., None, :] - shared).clamp(min=_TINY)
    if class_ids is not None:
        ious = ious * (class_ids[..., :, None] == class_ids[..., None, :])
    return ious.triu(diagonal=1)
