"""The instances of each picture of a batch, without a segmenter."""

from typing import NamedTuple

import torch
from torch import Tensor

from streamseg.models.nets.detector import Detector
from streamseg.models.nets.head import HeadOutput
from streamseg.models.postprocess.detections import Postprocessor
from streamseg.models.spec import TestSpec


class Found(NamedTuple):
    """N instances of one picture, best score first."""

    class_ids: Tensor
    """(N,) int64."""
    scores: Tensor
    """(N,) float32."""
    soft_masks: Tensor
    """(N, h, w) float32 in [0, 1] over the padded canvas."""


def detect(detector: Detector, output: HeadOutput, *, test: TestSpec | None = None) -> list[Found]:
    """The instances of B pictures, on a CPU."""
    return found_by(detector.postprocessor(test or detector.spec.test, torch.device("cpu")), output)


def found_by(postprocessor: Postprocessor, output: HeadOutput) -> list[Found]:
    found = []
    for _, ranked in postprocessor.rank(output, postprocessor.select(output)):
        good = postprocessor.good(ranked)
        split = (x.split(good.counts) for x in (good.class_ids, good.scores, good.soft_masks))
        found += [Found(*of_picture) for of_picture in zip(*split, strict=True)]
    return found
