"""How the network's soft masks become masks at source resolution: one small matrix for each axis.

The reference enlarges every mask by 4 to the padded canvas, cuts the padding off, resizes to the
source and thresholds (bilinear, corners not aligned). All of it but the threshold is linear and
acts on rows and columns separately, so it is one small matrix per axis, and of its product only
the part around the object is computed: 50 masks at 1080p take milliseconds instead of seconds.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

TAPS = 3
"""Network pixels that a source pixel can depend on: it lies between two of the canvas, they between three."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes (height, width) that a picture goes through."""

    source: tuple[int, int]
    resized: tuple[int, int]
    """The source, ratio kept, as it stands on the canvas."""
    canvas: tuple[int, int]
    """Input of the network: ``resized`` padded on the right and below."""


@dataclass(frozen=True, slots=True, eq=False)
class Resampling:
    """The whole resizing of one axis."""

    taps: NDArray[np.int64]
    """(source length,) first of the network pixels that this source pixel depends on."""
    weights: NDArray[np.float32]
    """(TAPS, source length) of that pixel and of those that follow it."""
    first: NDArray[np.int64]
    """(network length,) first source pixel that this network pixel or a later one contributes to."""
    last: NDArray[np.int64]
    """(network length,) last source pixel that this network pixel or an earlier one contributes to."""


@lru_cache(maxsize=64)
def resampling(network: int, canvas: int, resized: int, source: int) -> Resampling:
    """The linear map of one axis from ``network`` to ``source`` pixels."""
    matrix = (_bilinear(resized, source) @ _bilinear(network, canvas)[:resized]).astype(np.float32)
    used = matrix > 0
    # Network pixels on the padding contribute to none: they take their neighbours' ends.
    first = np.where(used.any(axis=0), used.argmax(axis=0), source)
    last = np.where(used.any(axis=0), source - 1 - used[::-1].argmax(axis=0), -1)
    count = min(TAPS, network)
    taps = np.minimum(used.argmax(axis=1), network - count)
    weights = np.take_along_axis(matrix, taps[:, None] + np.arange(count), axis=1).T
    return Resampling(
        taps,
        np.ascontiguousarray(weights),
        np.minimum.accumulate(first[::-1])[::-1],
        np.maximum.accumulate(last),
    )


def _bilinear(inputs: int, outputs: int) -> NDArray[np.float64]:
    """(outputs, inputs): bilinear interpolation, corners not aligned, clamped at the borders."""
    position = np.clip((np.arange(outputs) + 0.5) * (inputs / outputs) - 0.5, 0, inputs - 1)
    lower = np.floor(position).astype(int)
    upper = np.minimum(lower + 1, inputs - 1)
    matrix = np.zeros((outputs, inputs))
    matrix[np.arange(outputs), lower] += 1 - (position - lower)
    matrix[np.arange(outputs), upper] += position - lower
    return matrix
