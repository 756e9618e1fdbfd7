"""From the candidates' soft masks to the final instances of one image.

Pure functions on tensors, the same on CPU and GPU.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from streamseg.models.candidates import Candidates
from streamseg.models.matrix_nms import matrix_nms
from streamseg.models.spec import TestSpec


@dataclass(frozen=True, slots=True)
class Detections:
    """N instances of one image, best score first."""

    class_ids: Tensor
    """(N,) int64."""
    scores: Tensor
    """(N,) float32."""
    soft_masks: Tensor
    """(N, h, w) float32 in [0, 1] over the padded canvas."""


def refine(candidates: Candidates, soft_masks: Tensor, strides: Tensor, spec: TestSpec) -> Detections:
    """Score, suppress and limit the candidates (ECCV paper, section 3.3.3; SOLOv2, section 3.3).

    ``soft_masks`` is (N, h, w); ``strides`` (L,) holds each level's stride: a mask of no more pixels
    than that is noise. Thresholds are strict.
    """
    binary = soft_masks > spec.mask_threshold
    area = binary.sum(dim=(1, 2))
    inside = (soft_masks * binary).sum(dim=(1, 2))
    # Maskness: the mean soft value inside the mask, a measure of its quality.
    scores = candidates.scores * inside / area.clamp(min=1)
    keep = (area > strides[candidates.levels]).nonzero().squeeze(1)
    keep = keep[_best_first(scores[keep], spec.nms_pre)]
    class_ids = candidates.class_ids[keep]
    scores = matrix_nms(binary[keep], class_ids, scores[keep], kernel=spec.kernel, sigma=spec.sigma)
    order = _best_first(scores, spec.max_instances)
    order = order[scores[order] >= spec.filter_threshold]
    return Detections(class_ids[order], scores[order], soft_masks[keep[order]])


def _best_first(scores: Tensor, limit: int) -> Tensor:
    return torch.argsort(scores, descending=True, stable=True)[:limit]
