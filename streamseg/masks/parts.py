"""The main part of a mask that is in several pieces.

Masks have stray pieces far from the object: of the demo clip's instances 4 in 10 do. The box around all of
them says little about where the object is.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray


def main_boxes(boxes: NDArray[np.int64], crops: Sequence[NDArray[np.bool_]]) -> NDArray[np.int64]:
    """(N, 4) x1, y1, x2, y2 in pixels around the largest piece of each mask, x2 and y2 exclusive.

    ``boxes`` are tight around the whole masks, ``crops`` the masks inside them.
    """
    main = boxes.reshape(-1, 4).copy()
    for i, crop in enumerate(crops):
        if crop.size:
            main[i] = main_box(crop, main[i].tolist())
    return main


def main_box(crop: NDArray[np.bool_], box: Sequence[int]) -> tuple[int, ...]:
    """x1, y1, x2, y2 around the largest piece of a mask; ``crop`` is the mask inside its ``box``."""
    mask = np.ascontiguousarray(crop).view(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(box[0], box[1]))
    return largest(outlines, box)


def largest(outlines: Sequence[NDArray[np.int32]], box: Sequence[int]) -> tuple[int, ...]:
    """The largest of the boxes around ``outlines``; ``box`` if there are none."""
    pieces = [cv2.boundingRect(outline) for outline in outlines]
    if not pieces:
        return tuple(box)
    x, y, width, height = max(pieces, key=lambda piece: piece[2] * piece[3])
    return x, y, x + width, y + height
