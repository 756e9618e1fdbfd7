"""The host's part of one picture: its masks at source resolution."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamseg.masks.rle import decode_edges, encode_crop, encode_edges
from streamseg.masks.upsample import Geometry, enlarge
from streamseg.types import Instances


@dataclass(frozen=True, slots=True, eq=False)
class SoftMasks:
    """N masks of one picture as the network gives them."""

    values: NDArray[np.float32]
    """(N, h, w) in [0, 1] over the padded canvas."""
    threshold: float
    """A source pixel above it is in the mask."""


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """N masks of one picture at source resolution, as the device gives them."""

    of_masks: Sequence[NDArray[np.int64]]
    """As :func:`streamseg.masks.rle.encode_edges` takes them; empty if the mask is."""


@dataclass(frozen=True, slots=True, eq=False)
class HostDetections:
    """N instances of one picture in host memory, best score first."""

    class_ids: NDArray[np.int64]
    """(N,)"""
    scores: NDArray[np.float32]
    """(N,) in [0, 1]."""
    masks: SoftMasks | Edges


def make_instances(found: HostDetections, sizes: Geometry, *, classes: Sequence[str]) -> Instances:
    """The instances of a picture, masks and boxes in source pixels; ``classes`` names all of the model.

    Works on arrays of its own only: it may run in several threads at once.
    """
    height, width = sizes.source
    if isinstance(found.masks, Edges):
        # A mask can vanish when it is only a thread on the network's grid, or lies on the padding.
        kept = [k for k, edges in enumerate(found.masks.of_masks) if edges.size]
        runs = [found.masks.of_masks[k] for k in kept]
        run_lengths = tuple(encode_edges(edges, height, width) for edges in runs)
        inside = [decode_edges(edges, height) for edges in runs]
        boxes = np.array([box for box, _ in inside], np.int64).reshape(-1, 4)
        crops = tuple(crop for _, crop in inside)
    else:
        all_boxes, all_crops = enlarge(found.masks.values, sizes, threshold=found.masks.threshold)
        kept = [k for k, crop in enumerate(all_crops) if crop.size]
        boxes, crops = all_boxes[kept], tuple(all_crops[k] for k in kept)
        pairs = zip(crops, boxes, strict=True)
        run_lengths = tuple(encode_crop(crop, box, height, width) for crop, box in pairs)
    class_ids = found.class_ids[kept]
    return Instances(
        height=height,
        width=width,
        class_ids=class_ids,
        labels=tuple(classes[c] for c in class_ids),
        scores=found.scores[kept],
        boxes=boxes,
        crops=crops,
        run_lengths=run_lengths,
    )
