"""The host's part of one picture: its masks at source resolution."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamseg.masks.host_runs import mask_runs
from streamseg.masks.runs import MaskRuns, RunCrops
from streamseg.masks.upsample import Geometry
from streamseg.types import Instances


@dataclass(frozen=True, slots=True, eq=False)
class SoftMasks:
    """N masks of one picture as the network gives them."""

    values: NDArray[np.float32]
    """(N, h, w) in [0, 1] over the padded canvas."""
    threshold: float
    """A source pixel above it is in the mask."""


@dataclass(frozen=True, slots=True, eq=False)
class HostDetections:
    """N instances of one picture in host memory, best score first."""

    class_ids: NDArray[np.int64]
    """(N,)"""
    scores: NDArray[np.float32]
    """(N,) in [0, 1]."""
    masks: SoftMasks | MaskRuns


def make_instances(found: HostDetections, sizes: Geometry, *, classes: Sequence[str]) -> Instances:
    """The instances of a picture, masks and boxes in source pixels; ``classes`` names all of the model.

    Works on arrays of its own only: it may run in several threads at once.
    """
    masks = found.masks
    runs = masks if isinstance(masks, MaskRuns) else mask_runs(masks.values, sizes, threshold=masks.threshold)
    # A mask can vanish when it is only a thread on the network's grid, or lies on the padding.
    kept = np.flatnonzero(runs.counts)
    crops = RunCrops.of(MaskRuns(runs.height, runs.width, runs.edges, runs.counts[kept]))
    class_ids = found.class_ids[kept]
    return Instances(
        height=runs.height,
        width=runs.width,
        class_ids=class_ids,
        labels=tuple(classes[c] for c in class_ids.tolist()),
        scores=found.scores[kept],
        boxes=crops.boxes,
        crops=crops,
        run_lengths=crops.runs.run_lengths(),
    )
