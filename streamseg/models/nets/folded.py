"""A detector for inference only: with fewer steps, and equal but for rounding."""

import copy

from streamseg.models.nets.detector import Detector
from streamseg.models.nets.folding import fold_batch_norms
from streamseg.models.nets.shufflenet import ShuffleNetV2
from streamseg.models.nets.unshuffled import remove_shuffles, reorder


def folded_copy(detector: Detector) -> Detector:
    """A detector that only infers, in float32 as the first; that one stays as it is and may be trained on."""
    folded = copy.deepcopy(detector).eval().requires_grad_(False)
    fold_batch_norms(folded)
    if isinstance(folded.backbone, ShuffleNetV2):
        orders = remove_shuffles(folded.backbone)[folded.spec.pyramid_first - 2 :]
        for conv, order in zip(folded.neck.entries, orders, strict=True):
            reorder(conv, inputs=order)
    return folded
