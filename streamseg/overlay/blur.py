"""Privacy: objects of chosen classes made unrecognisable."""

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.types import Instances

# A face is about an eighth of a standing person's height. With 8 cells along the longer side it becomes one
# cell of a person, and 8 x 6 cells where it fills the box: too few to recognise anybody.
_CELLS = 8
_MARGIN = 0.06
"""The mask grows by this share of its box's shorter side: hair and hands reach beyond masks."""


def blur_classes(picture: NDArray[np.uint8], instances: Instances, classes: frozenset[str]) -> None:
    """Blur, in place, the instances whose label is among ``classes``.

    Args:
        picture: (height, width, 3) uint8.
        instances: What was found in it.
        classes: Class names.
    """
    for label, box, crop in zip(instances.labels, instances.boxes.tolist(), instances.crops, strict=True):
        if label in classes and crop.size:
            _blur(picture, box, crop)


def _blur(picture: NDArray[np.uint8], box: list[int], crop: NDArray[np.bool_]) -> None:
    x1, y1, x2, y2 = box
    margin = 2 + round(_MARGIN * min(x2 - x1, y2 - y1))
    left, top = min(margin, x1), min(margin, y1)
    right, bottom = min(margin, picture.shape[1] - x2), min(margin, picture.shape[0] - y2)
    inside = picture[y1 - top : y2 + bottom, x1 - left : x2 + right]
    mask = cv2.copyMakeBorder(crop.view(np.uint8), top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)
    mask = cv2.dilate(mask, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8))
    height, width = inside.shape[:2]
    cell = max(height, width) / _CELLS
    few = (max(1, round(width / cell)), max(1, round(height / cell)))
    cells = cv2.resize(inside, few, interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.copyTo(smooth, mask, inside)
