"""The overlay: masks as translucent fills with a clean outline, and a label each."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from streamseg.config import OverlayOptions
from streamseg.masks.parts import largest
from streamseg.overlay.blur import blur_classes
from streamseg.overlay.labels import draw_labels, texts_of
from streamseg.overlay.palette import PALETTE, Colour, colour_of, colours_of
from streamseg.overlay.places import draw_places
from streamseg.overlay.trails import Point, Trails
from streamseg.types import Frame, Instances
from streamseg.types.zones import Counts
from streamseg.zones import StreamRules

_FILL = 0.42  # share of the colour: the object stays recognisable below it
_REFERENCE_SIDE = 720  # sizes below are those of a picture whose shorter side has that many pixels
_LINE = 2
_FONT_SCALE = 0.45  # 12 pixels from the top of a letter to the bottom
_THINNEST = 16  # an outline is at most this part of the box's shorter side wide
_FINE = 4  # fractional bits of trails' coordinates: without them slow objects draw stairs


class Painter:
    """Paints the frames of one stream in order; remembers trails and where labels were."""

    def __init__(
        self, options: OverlayOptions | None = None, rules: Mapping[str, StreamRules] | None = None
    ) -> None:
        """``rules`` of streams by id, whose zones and lines are drawn; it may change meanwhile."""
        self._options = options or OverlayOptions()
        self._rules = {} if rules is None else rules
        self._trails = Trails()
        self._places: dict[int, int] = {}
        self._canvas = np.empty((0, 0, 3), np.uint8)

    def paint(
        self, frame: Frame, instances: Instances, counts: Counts | msgspec.UnsetType | None = None
    ) -> NDArray[np.uint8]:
        """Draw ``instances`` over a copy of the frame: (height, width, 3) uint8 RGB.

        ``counts`` are those of its result, for zones and lines. The next call paints over the same memory: a
        copy in a new one takes several times as long, for the system has to clear it first.
        """
        if self._canvas.shape != frame.pixels.shape:
            self._canvas = np.empty(frame.pixels.shape, np.uint8)
        picture = self._canvas
        np.copyto(picture, frame.pixels)
        parts = _paint_masks(picture, instances, self._options)
        if self._options.trails:
            for id_, way in self._trails.update(frame, instances.ids, parts.tolist()).items():
                _paint_trail(picture, way, colour_of(id_))
        source = frame.width, frame.height
        _paint_places(picture, self._rules.get(frame.stream), counts, self._options, source)
        _paint_labels(picture, instances, parts, self._places, self._options)
        return picture


def paint(
    pixels: NDArray[np.uint8],
    instances: Instances,
    *,
    options: OverlayOptions | None = None,
    rules: StreamRules | None = None,
    counts: Counts | msgspec.UnsetType | None = None,
    source: tuple[int, int] | None = None,
) -> NDArray[np.uint8]:
    """Draw ``instances`` over a picture that stands alone.

    Args:
        pixels: (height, width, 3) uint8 RGB; left as it is.
        instances: What was found in it.
        options: What to draw; there are no trails.
        rules: Those of the stream, whose zones and lines are drawn.
        counts: What was counted at them.
        source: Width and height of the stream's pictures, if this one was resized.

    Returns:
        A new picture of the same size, RGB.
    """
    options = options or OverlayOptions()
    picture = pixels.copy()
    parts = _paint_masks(picture, instances, options)
    _paint_places(picture, rules, counts, options, source or (pixels.shape[1], pixels.shape[0]))
    _paint_labels(picture, instances, parts, {}, options)
    return picture


def _paint_masks(
    picture: NDArray[np.uint8], instances: Instances, options: OverlayOptions
) -> NDArray[np.float32]:
    """Returns the (N, 4) boxes of the masks' largest pieces."""
    if options.blur:
        blur_classes(picture, instances, frozenset(options.blur))
    colours = colours_of(instances)
    parts = instances.boxes.astype(np.float32).reshape(-1, 4)
    # Large ones first, so that what stands in front of them is not covered.
    for i in np.argsort([-crop.size for crop in instances.crops], kind="stable").tolist():
        if instances.crops[i].size:
            parts[i] = _paint_mask(picture, instances, i, colours[i], options)
    return parts


def _paint_places(
    picture: NDArray[np.uint8],
    rules: StreamRules | None,
    counts: Counts | msgspec.UnsetType | None,
    options: OverlayOptions,
    source: tuple[int, int],
) -> None:
    if options.places and rules is not None and rules.watching:
        scale = _FONT_SCALE * _size(picture)
        draw_places(picture, rules, counts or {}, source=source, thickness=_line(picture), scale=scale)


def _paint_labels(
    picture: NDArray[np.uint8],
    instances: Instances,
    parts: NDArray[np.float32],
    places: dict[int, int],
    options: OverlayOptions,
) -> None:
    """``places``: by id, where its label was in the picture before; is brought up to date."""
    texts = [texts_of(instances, i, labels=options.labels, ids=options.ids) for i in range(len(instances))]
    ids = instances.ids or (None,) * len(instances)
    usual = [None if id_ is None else places.get(id_) for id_ in ids]
    scale = _FONT_SCALE * _size(picture)
    chosen = draw_labels(picture, parts, texts, colours_of(instances), usual, scale=scale)
    places.clear()
    places.update((id_, chosen[i]) for i, id_ in enumerate(ids) if id_ is not None and i in chosen)


def _size(picture: NDArray[np.uint8]) -> float:
    return float(min(picture.shape[:2])) / _REFERENCE_SIDE


def _line(picture: NDArray[np.uint8]) -> int:
    return max(1, round(_LINE * _size(picture)))


def _paint_mask(
    picture: NDArray[np.uint8], instances: Instances, i: int, colour: Colour, options: OverlayOptions
) -> tuple[int, ...]:
    """Returns the box of the mask's largest part: a label belongs there, not at a few stray pixels."""
    x1, y1, x2, y2 = box = tuple(instances.boxes[i].tolist())
    mask = np.ascontiguousarray(instances.crops[i]).view(np.uint8)
    # A thick line would hide a small object.
    line = min(_line(picture), max(1, min(x2 - x1, y2 - y1) // _THINNEST))
    if options.masks:
        inside = picture[y1:y2, x1:x2]
        cv2.copyTo(cv2.transform(inside, _tint(colour)), mask, inside)
    if options.boxes:
        cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), colour, max(1, line // 2))
    if not (options.outlines or options.labels or options.ids or options.trails):
        return box
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE, offset=(x1, y1))
    if options.outlines:
        # Lines cost by their number: without the steps of single pixels they take half the time, and
        # look smoother.
        smooth = [cv2.approxPolyDP(outline, 0.9, True) for outline in outlines]
        cv2.polylines(picture, smooth, True, colour, line, cv2.LINE_AA)
    return largest(outlines, box)


@lru_cache(maxsize=len(PALETTE))
def _tint(colour: Colour) -> NDArray[np.float32]:
    """(3, 4) affine map that mixes ``colour`` into a picture."""
    keep = np.eye(3, dtype=np.float32) * (1 - _FILL)
    return np.column_stack([keep, np.array(colour, dtype=np.float32) * _FILL])


def _paint_trail(picture: NDArray[np.uint8], way: Sequence[Point], colour: Colour) -> None:
    """A line that grows from thin, long ago, to thick."""
    if len(way) < 2:
        return
    points = np.rint(np.array(way) * (1 << _FINE)).astype(np.int32)
    for third, part in enumerate(np.array_split(np.arange(len(points) - 1), 3)):
        if part.size:
            piece = points[part[0] : part[-1] + 2]
            width = max(1, round(_line(picture) * (third + 1) / 2))
            cv2.polylines(picture, [piece], False, colour, width, cv2.LINE_AA, _FINE)
