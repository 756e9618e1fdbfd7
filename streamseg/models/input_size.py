"""How large a picture is when it enters the network: resized, then padded. Sizes are (height, width).

Inference, training and export all take their sizes from here.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.masks.upsample import Geometry
from streamseg.models.spec import InputSpec

INPUT_MULTIPLE = 32
"""Both sides of the network's input are multiples of it: the network halves its input five times."""


def geometry(height: int, width: int, spec: InputSpec) -> Geometry:
    """How a picture of ``height`` x ``width`` is resized and padded for a model."""
    if spec.canvas is not None:
        factor = min(spec.canvas[0] / height, spec.canvas[1] / width)
        resized = _scaled(height, width, factor)
        resized = (min(resized[0], spec.canvas[0]), min(resized[1], spec.canvas[1]))
        return Geometry((height, width), resized, spec.canvas)
    resized = fitted(height, width, long_side=spec.long_side, short_side=spec.short_side)
    return Geometry((height, width), resized, padded([resized]))


def fitted(height: int, width: int, *, long_side: int, short_side: int) -> tuple[int, int]:
    """The size, ratio kept, that just fits ``long_side`` x ``short_side`` upright or lying."""
    return _scaled(height, width, min(long_side / max(height, width), short_side / min(height, width)))


def _scaled(height: int, width: int, factor: float) -> tuple[int, int]:
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def padded(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The smallest input of the network that pictures of these sizes, one or more, all fit on."""
    heights, widths = zip(*sizes, strict=True)
    return _next_multiple(max(heights)), _next_multiple(max(widths))


def _next_multiple(side: int) -> int:
    return -(-side // INPUT_MULTIPLE) * INPUT_MULTIPLE


def resize_picture(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (*size, 3) uint8, bilinear as the published models were trained with.

    A picture of that size is returned as it is, not copied.
    """
    if pixels.shape[:2] == size:
        return pixels
    resized: NDArray[np.uint8] = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized
