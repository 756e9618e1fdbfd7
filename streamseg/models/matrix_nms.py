"""Matrix NMS (SOLOv2 paper, section 3.3): all scores are decayed at once by the overlaps."""

from typing import Literal

import torch
from torch import Tensor

_TINY = 1e-6


def matrix_nms(
    masks: Tensor, class_ids: Tensor, scores: Tensor, *, kernel: Literal["gaussian", "linear"], sigma: float
) -> Tensor:
    """Decay the scores of masks that overlap a better one of their class.

    ``masks`` (N, h, w) bool, ``class_ids`` (N,), ``scores`` (N,) float, all in descending order of
    score. Returns (N,): ``scores`` times a factor in [0, 1], finite also for exact duplicates.
    """
    if not len(masks):
        return scores
    overlap = _overlap_with_better(masks, class_ids)
    # How much the better one of a pair is itself overlapped: a mask that is likely to be suppressed
    # shall not suppress others.
    compensation = overlap.amax(dim=0).unsqueeze(1)
    if kernel == "gaussian":
        decay = torch.exp(-sigma * (overlap.square() - compensation.square()))
    else:
        decay = (1 - overlap) / (1 - compensation).clamp(min=_TINY)
    return scores * decay.amin(dim=0)


def _overlap_with_better(masks: Tensor, class_ids: Tensor) -> Tensor:
    """(N, N): IoU of mask i with mask j where i < j and both have one class, 0 elsewhere."""
    flat = masks.flatten(1).float()
    area = flat.sum(dim=1)
    intersection = flat @ flat.T
    union = area[:, None] + area[None, :] - intersection
    same_class = class_ids[:, None] == class_ids[None, :]
    return (intersection / union.clamp(min=_TINY) * same_class).triu(diagonal=1)
