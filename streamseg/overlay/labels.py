"""Labels of an overlay: what they say, how they look, where they stand."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.overlay.palette import Colour, ink_on
from streamseg.results.frame_result import published_score
from streamseg.types import Instances

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SMALLEST = 0.4
"""Font scale below which letters of 9 pixels run into each other."""
_CROWDED = 0.1
"""A label of which a larger share would lie on others is shortened."""

# Where the upper left corner of a label may be: shares of the box's width and height to add to the box's
# corner, then shares of the label's. What is above the box is least in the way, then at its upper edge.
_PLACES = np.array(
    [
        (0, 0, 0, -1),
        (0.5, 0, -0.5, -1),
        (1, 0, -1, -1),
        (0, 1, 0, 0),
        (0.5, 1, -0.5, 0),
        (1, 0, 0, 0),
        (0, 0, -1, 0),
        (0, 0, 0, 0),
        (1, 0.5, 0, -0.5),
        (0, 0.5, -1, -0.5),
        (0.5, 0.5, -0.5, -0.5),
        (0.5, 1, -0.5, -1),
        (0.5, 0, -0.5, -2),
        (0.5, 1, -0.5, 1),
    ],
    np.float32,
)
_OVER_LABEL, _OVER_OBJECT, _FURTHER = 40.0, 1.0, 0.12
"""Costs of a place: per share of the label on other labels; on objects; per step down the list of places."""
_HABIT = 0.75
"""What a label saves by staying where it was: without, one in twelve jumps from picture to picture."""
_MANY = 2.0
"""More objects than that below a label are no worse."""

_Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Plate:
    """A label, ready to be pasted."""

    pixels: NDArray[np.uint8]
    """(height, width, 3)."""
    share: NDArray[np.float32]
    """(height, width) opacity."""

    @property
    def size(self) -> tuple[int, int]:
        """width, height."""
        return self.pixels.shape[1], self.pixels.shape[0]


def draw_labels(
    picture: NDArray[np.uint8],
    objects: NDArray[np.float32],
    texts: Sequence[tuple[str, ...]],
    colours: Sequence[Colour],
    usual: Sequence[int | None],
    *,
    scale: float,
) -> dict[int, int]:
    """Label objects, the first ones have the choice of places.

    Args:
        picture: (height, width, 3) uint8, drawn into.
        objects: (N, 4) their boxes.
        texts: N tuples: nothing, or what to write, long and then short for where there is little room.
        colours: N.
        usual: N numbers of the places the labels had in the picture before, None for new ones.
        scale: Of the font.

    Returns:
        By object that has a label, the number of its place.
    """
    scale = round(max(_SMALLEST, scale), 2)
    rows = [i for i, wordings in enumerate(texts) if wordings]
    plates = [_plate(texts[i][0], colours[i], scale) for i in rows]
    taken = np.empty((len(rows), 4), np.float32)
    choices = _Choices(objects, rows, plates, picture.shape)
    chosen: dict[int, int] = {}
    for n, i in enumerate(rows):
        plate, choice = plates[n], choices.best(n, taken[:n], usual[i])
        if choice.covered > _CROWDED and len(texts[i]) > 1:
            plate = _plate(texts[i][-1], colours[i], scale)
            choice = _Choices(objects, [i], [plate], picture.shape).best(0, taken[:n], usual[i])
        taken[n], chosen[i] = choice.place, choice.number
        _paste(picture, plate, int(choice.place[0]), int(choice.place[1]))
    return chosen


def write_text(
    picture: NDArray[np.uint8], text: str, corner: tuple[int, int], colour: Colour, *, scale: float
) -> None:
    """Put a label with its upper left corner at ``corner`` (x, y), moved into the picture."""
    plate = _plate(text, colour, round(max(_SMALLEST, scale), 2))
    x, y = (
        int(np.clip(at, 0, max(0, side - size)))
        for at, side, size in zip(corner, (picture.shape[1], picture.shape[0]), plate.size, strict=True)
    )
    _paste(picture, plate, x, y)


class _Choice(NamedTuple):
    number: int
    """In :data:`_PLACES`."""
    place: NDArray[np.float32]
    """x1, y1, x2, y2."""
    covered: float
    """Share of the label that lies on others."""


class _Choices:
    """The places that some labels can have, and what each costs as long as there are no other labels."""

    def __init__(
        self, objects: NDArray[np.float32], rows: Sequence[int], plates: Sequence[_Plate], shape: _Shape
    ) -> None:
        """``rows``: the objects that the ``plates`` belong to; ``shape``: of the picture."""
        sizes = np.array([plate.size for plate in plates], np.float32).reshape(-1, 1, 2)
        boxes = objects[list(rows), None]
        corners = boxes[..., :2] + _PLACES[:, :2] * (boxes[..., 2:] - boxes[..., :2]) + _PLACES[:, 2:] * sizes
        limits = np.maximum(np.array([shape[1], shape[0]], np.float32) - sizes, 0)
        corners = np.minimum(np.maximum(np.rint(corners), 0), limits)
        self._places = np.concatenate([corners, corners + sizes], axis=2)
        self._areas = sizes[..., 0] * sizes[..., 1]
        # The label may lie on its own object too: in all places about the same.
        on_objects = _overlaps(self._places, objects) / self._areas
        self._costs = _OVER_OBJECT * np.minimum(on_objects, _MANY) + _FURTHER * np.arange(len(_PLACES))

    def best(self, n: int, taken: NDArray[np.float32], usual: int | None) -> _Choice:
        """The place that costs label ``n`` least, with the places ``taken`` and its ``usual`` one."""
        on_labels = _overlaps(self._places[n], taken) / self._areas[n]
        costs = self._costs[n] + _OVER_LABEL * on_labels
        if usual is not None:
            costs[usual] -= _HABIT
        best = int(np.argmin(costs))
        return _Choice(best, self._places[n, best], float(on_labels[best]))


def texts_of(instances: Instances, i: int, *, labels: bool, ids: bool) -> tuple[str, ...]:
    """What a label says, long and short; nothing if there is nothing to say."""
    id_ = instances.ids[i] if ids and instances.ids else None
    number = [] if id_ is None else [f"#{id_}"]
    if not labels:
        return tuple(number)
    # As published: else a label painted from a stored result might end in another digit.
    score = published_score(instances.scores[i])
    long = " ".join([*number, instances.labels[i], f"{score:.2f}"])
    return long, number[0] if number else instances.labels[i]


def _overlaps(places: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., P) pixels of (..., P, 4) rectangles that lie on (M, 4) others, summed over those."""
    low = np.maximum(places[..., None, :2], others[:, :2])
    sides = np.maximum(np.minimum(places[..., None, 2:], others[:, 2:]) - low, 0)
    covered: NDArray[np.float32] = (sides[..., 0] * sides[..., 1]).sum(axis=-1)
    return covered


@lru_cache(maxsize=4096)
def _plate(text: str, colour: Colour, scale: float) -> _Plate:
    """A label, drawn once: it comes back in many frames."""
    thickness = max(1, round(1.4 * scale))
    (width, height), baseline = cv2.getTextSize(text, _FONT, scale, thickness)
    margin = max(2, round(7 * scale))
    size = (height + baseline + margin, width + 2 * margin)
    plate = np.full((*size, 3), colour, dtype=np.uint8)
    origin = (margin, (size[0] + height) // 2)
    cv2.putText(plate, text, origin, _FONT, scale, ink_on(colour), thickness, cv2.LINE_AA)
    return _Plate(plate, _rounded(size[1], size[0], round(6 * scale)))


@lru_cache(maxsize=512)
def _rounded(width: int, height: int, radius: int) -> NDArray[np.float32]:
    """(height, width): 1 inside a rectangle with smooth round corners, 0 outside."""
    fine = 4
    mask = np.zeros((height * fine, width * fine), np.uint8)
    r = max(1, radius * fine)
    right, low = width * fine - 1, height * fine - 1
    for x, y in ((r, r), (right - r, r), (r, low - r), (right - r, low - r)):
        cv2.circle(mask, (x, y), r, 255, cv2.FILLED)
    cv2.rectangle(mask, (r, 0), (right - r, low), 255, cv2.FILLED)
    cv2.rectangle(mask, (0, r), (right, low - r), 255, cv2.FILLED)
    smooth = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    share: NDArray[np.float32] = smooth.astype(np.float32) / 255
    return share


def _paste(picture: NDArray[np.uint8], plate: _Plate, x: int, y: int) -> None:
    target = picture[y : y + plate.size[1], x : x + plate.size[0]]
    height, width = target.shape[:2]  # the picture may be smaller than the label
    share = plate.share[:height, :width]
    target[:] = cv2.blendLinear(plate.pixels[:height, :width], target, share, 1 - share)
