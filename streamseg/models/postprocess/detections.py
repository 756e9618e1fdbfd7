"""From the logits of a batch to the final instances of each image.

Pure functions on tensors, the same on CPU and GPU. A GPU is waited for where the host must know a number:
how many candidates a batch has and on which levels (see :func:`select_candidates`), and how many instances
are left of each image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from streamseg.models.nets.head import HeadOutput, candidate_masks
from streamseg.models.postprocess.candidates import Candidates, select_candidates
from streamseg.models.postprocess.maskness import measure, score_masks
from streamseg.models.postprocess.matrix_nms import intersections, matrix_nms
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

    def first(self, n: int) -> "Detections":
        """The n best."""
        return Detections(self.class_ids[:n], self.scores[:n], self.soft_masks[:n])


@torch.no_grad()
def detect(
    output: HeadOutput, *, strides: Sequence[int], test: TestSpec, class_ids: Sequence[int] | None = None
) -> list[Detections]:
    """Post-process the logits of B images into B detections.

    ``strides`` holds each level's stride, ``class_ids`` restricts the classes looked for, before any
    mask is built; see :class:`TestSpec` for the rest.
    """
    candidates = select_candidates(
        output.class_logits, threshold=test.score_threshold, limit=test.max_candidates, class_ids=class_ids
    )
    stride_of_level = torch.tensor(list(strides), device=output.class_logits[0].device)
    ranked = [
        _rank(found, candidate_masks(output, image, found), stride_of_level, test)
        for image, found in enumerate(candidates)
    ]
    good = torch.stack([(r.scores >= test.filter_threshold).sum() for r in ranked])
    return [r.first(n) for r, n in zip(ranked, good.tolist(), strict=True)]


def _rank(candidates: Candidates, soft_masks: Tensor, strides: Tensor, test: TestSpec) -> Detections:
    """Score, suppress and sort the candidates (SOLO paper, "Inference"; SOLOv2 paper, "Matrix NMS").

    ``soft_masks`` is (N, h, w); ``strides`` (L,) holds each level's stride. All thresholds are strict. At
    most ``max_instances`` come back, those that shall not be kept with a score of -1: nothing here waits
    for the device.
    """
    area, total = measure(soft_masks, test.mask_threshold)
    scores = score_masks(candidates.scores, area, total, strides[candidates.levels])
    # Noise sorts last, where it can no longer suppress anything.
    order = _best_first(scores, test.nms_pre)
    class_ids, before = candidates.class_ids[order], scores[order]
    shared = intersections(soft_masks, order, test.mask_threshold)
    scores = matrix_nms(shared, class_ids, before, kernel=test.kernel, sigma=test.sigma, overlap=test.overlap)
    scores = scores.masked_fill(before < 0, -1.0)
    best = _best_first(scores, test.max_instances)
    return Detections(class_ids[best], scores[best], soft_masks[order[best]])


def _best_first(scores: Tensor, limit: int) -> Tensor:
    return torch.argsort(scores, descending=True, stable=True)[:limit]
