"""The overlay: masks as translucent fills with a clean outline, and a label each."""

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.types import Instances

Colour = tuple[int, int, int]
Plate = tuple[int, int, int, int]

# Okabe and Ito's colours without black, then four of Paul Tol's that stay apart from them for
# colour-blind eyes. The order puts the most different ones next to each other: ids and ranks count up.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (204, 121, 167),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (0, 114, 178),
    (170, 170, 0),
    (238, 136, 102),
    (119, 170, 221),
    (170, 51, 119),
    (153, 221, 255),
)
_FILL = 0.42  # share of the colour: the object stays recognisable below it
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_REFERENCE_HEIGHT = 720  # a picture of that many rows gets labels of scale 0.55 and 2 pixel outlines


def paint(pixels: NDArray[np.uint8], instances: Instances) -> NDArray[np.uint8]:
    """Draw ``instances`` over a picture.

    Args:
        pixels: (height, width, 3) uint8 RGB; left as it is.
        instances: What was found in it.

    Returns:
        A new picture of the same size, RGB.
    """
    picture = pixels.copy()
    colours = _colours(instances)
    size = min(pixels.shape[:2]) / _REFERENCE_HEIGHT
    # Large ones first, so that what stands in front of them is not covered.
    order = np.argsort([-crop.size for crop in instances.crops], kind="stable")
    for i in order:
        _paint_mask(picture, instances.crops[i], instances.boxes[i].tolist(), colours[i], size)
    taken: list[Plate] = []
    for i, box in enumerate(instances.boxes.tolist()):
        plate = _label_plate(_label(instances, i), colours[i], round(max(0.42, 0.55 * size), 2))
        _paste(picture, plate, _free_place(box, plate.shape, picture.shape, taken))
    return picture


def _colours(instances: Instances) -> list[Colour]:
    """By track id; without tracking by rank from left to right, so that neighbours differ."""
    ids = instances.ids or (None,) * len(instances)
    left = instances.boxes.reshape(-1, 4)[:, 0]
    ranks: list[int] = np.argsort(np.argsort(left, kind="stable")).tolist()
    numbers = [rank if id_ is None else id_ for id_, rank in zip(ids, ranks, strict=True)]
    return [PALETTE[number % len(PALETTE)] for number in numbers]


def _paint_mask(
    picture: NDArray[np.uint8], crop: NDArray[np.bool_], box: list[int], colour: Colour, size: float
) -> None:
    x1, y1, x2, y2 = box
    if crop.size == 0:
        return
    inside = picture[y1:y2, x1:x2]
    mask = np.ascontiguousarray(crop).view(np.uint8)
    cv2.copyTo(cv2.transform(inside, _tint(colour)), mask, inside)
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x1, y1))
    # Lines cost by their number: without the steps of single pixels they take half the time, and
    # look smoother.
    smooth = [cv2.approxPolyDP(outline, 0.9, True) for outline in outlines]
    cv2.polylines(picture, smooth, True, colour, max(1, round(2 * size)), cv2.LINE_AA)


@lru_cache(maxsize=len(PALETTE))
def _tint(colour: Colour) -> NDArray[np.float32]:
    """(3, 4) affine map that mixes ``colour`` into a picture."""
    keep = np.eye(3, dtype=np.float32) * (1 - _FILL)
    return np.column_stack([keep, np.array(colour, dtype=np.float32) * _FILL])


def _label(instances: Instances, i: int) -> str:
    id_ = instances.ids[i] if instances.ids else None
    text = f"{instances.labels[i]} {instances.scores[i]:.2f}"
    return text if id_ is None else f"{text} #{id_}"


@lru_cache(maxsize=2048)
def _label_plate(text: str, colour: Colour, scale: float) -> NDArray[np.uint8]:
    """Draw a label once: text on a plate of the mask's colour. A person keeps it for many frames."""
    thickness = max(1, round(1.6 * scale))
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = max(2, round(6 * scale))
    plate = np.full((height + baseline + margin, width + 2 * margin, 3), colour, dtype=np.uint8)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = (0, 0, 0) if luminance > 110 else (255, 255, 255)
    origin = (margin, margin // 2 + height)
    cv2.putText(plate, text, origin, _FONT, scale, ink, thickness, cv2.LINE_AA)
    return plate


def _free_place(
    box: list[int], plate: tuple[int, ...], picture: tuple[int, ...], taken: list[Plate]
) -> tuple[int, int]:
    """Upper left corner of a label: above its box, else below or inside, inside the picture."""
    x1, y1, _, y2 = box
    height, width = plate[:2]
    x = max(0, min(x1, picture[1] - width))
    places = [max(0, min(y, picture[0] - height)) for y in (y1 - height, y2, y1, y2 - height)]
    for y in places:
        here = (x, y, x + width, y + height)
        if not any(here[0] < t[2] and t[0] < here[2] and here[1] < t[3] and t[1] < here[3] for t in taken):
            break
    else:
        here = (x, places[0], x + width, places[0] + height)
    taken.append(here)
    return here[0], here[1]


def _paste(picture: NDArray[np.uint8], plate: NDArray[np.uint8], place: tuple[int, int]) -> None:
    x, y = place
    target = picture[y : y + plate.shape[0], x : x + plate.shape[1]]
    target[:] = plate[: target.shape[0], : target.shape[1]]
