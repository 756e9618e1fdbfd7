"""Matrix NMS (SOLOv2 paper, "Matrix NMS"): all scores are decayed at once by the overlaps."""

from typing import Literal

import torch
from torch import Tensor

_TINY = 1e-6
_PIXELS = 8192
"""Pixels of each mask that are multiplied at once."""


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
    intersection = _intersections(masks.flatten(1))
    area = intersection.diagonal()
    union = area[:, None] + area[None, :] - intersection
    same_class = class_ids[:, None] == class_ids[None, :]
    return (intersection / union.clamp(min=_TINY) * same_class).triu(diagonal=1)


def _intersections(masks: Tensor) -> Tensor:
    """(N, P) bool -> (N, N) float32 numbers of shared pixels, exact up to 2^24.

    A piece of the pixels at a time: all of them in float would be as large as the soft masks.
    """
    shared = torch.zeros((len(masks), len(masks)), device=masks.device)
    for piece in masks.split(_PIXELS, dim=1):
        pixels = piece.float()
        shared.addmm_(pixels, pixels.T)
    return shared
