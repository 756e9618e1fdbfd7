"""The host's part of one picture: its masks at source resolution."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamseg.masks.upsample import Geometry, enlarge
from streamseg.types import Instances


@dataclass(frozen=True, slots=True, eq=False)
class HostDetections:
    """N instances of one picture in host memory, best score first."""

    class_ids: NDArray[np.int64]
    """(N,)"""
    scores: NDArray[np.float32]
    """(N,) in [0, 1]."""
    soft_masks: NDArray[np.float32]
    """(N, h, w) in [0, 1] over the padded canvas."""


def enlarge_instances(
    found: HostDetections, sizes: Geometry, *, classes: Sequence[str], mask_threshold: float
) -> Instances:
    """The instances of a picture, masks and boxes in source pixels.

    ``classes`` names every class of the model; a source pixel above ``mask_threshold`` is in the mask.
    Works on arrays of its own only: it may run in several threads at once.
    """
    boxes, crops = enlarge(found.soft_masks, sizes, threshold=mask_threshold)
    # A mask can vanish when it is only a thread on the network's grid, or lies on the padding.
    kept = [k for k, crop in enumerate(crops) if crop.size]
    class_ids = found.class_ids[kept]
    return Instances(
        height=sizes.source[0],
        width=sizes.source[1],
        class_ids=class_ids,
        labels=tuple(classes[c] for c in class_ids),
        scores=found.scores[kept],
        boxes=boxes[kept],
        crops=tuple(crops[k] for k in kept),
    )
