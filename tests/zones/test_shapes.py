"""Points as fractions or pixels, the ground under a mask, and what a filter keeps."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from streamseg.masks.parts import main_boxes
from streamseg.types import Instances
from streamseg.zones.anchors import anchors_of
from streamseg.zones.filter import StreamFilter
from streamseg.zones.shapes import covered, to_pixels
from tests.zones.boxes import standing

LEFT_HALF = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))


def test_fractions_and_pixels_are_the_same_place() -> None:
    pixels = [(320.0, 0.0), (640.0, 240.0), (320.0, 480.0)]
    fractions = [(0.5, 0.0), (1.0, 0.5), (0.5, 1.0)]
    assert np.array_equal(
        to_pixels(pixels, width=640, height=480), to_pixels(fractions, width=640, height=480)
    )


def test_a_polygon_covers_the_pixels_inside_and_those_on_its_edge() -> None:
    area = covered([to_pixels(LEFT_HALF, width=8, height=4)], width=8, height=4)
    assert area.tolist() == [[True] * 5 + [False] * 3] * 4


def placed(crop: NDArray[np.bool_], box: tuple[int, int, int, int]) -> Instances:
    """One object with this mask."""
    return replace(standing({1: (100, 300)}), boxes=np.array([box]), crops=(crop,))


def test_the_foot_is_below_the_lowest_rows_of_the_largest_piece() -> None:
    crop = np.zeros((100, 60), np.bool_)
    crop[10:80, 20:50] = True
    crop[80:90, 20:30] = True  # a leg
    crop[95:100, 50:60] = True  # a stray piece, lower still
    found = placed(crop, (100, 200, 160, 300))
    assert anchors_of(found, "foot") == [(125.0, 290.0)]
    # as tracking leaves it
    again = replace(found, main_boxes=main_boxes(found.boxes, found.crops))
    assert anchors_of(again, "foot") == [(125.0, 290.0)]


def test_feet_of_many_are_those_of_each() -> None:
    rng = np.random.default_rng(3)
    boxes = [
        (10 * k, 20, 10 * k + int(w), 20 + int(h)) for k, (w, h) in enumerate(rng.integers(1, 90, (20, 2)))
    ]
    alone = [placed(rng.random((y2 - y1, x2 - x1)) < 0.6, (x1, y1, x2, y2)) for x1, y1, x2, y2 in boxes]
    alone = [
        one if one.crops[0].any() else placed(np.ones_like(one.crops[0]), b)
        for one, b in zip(alone, boxes, strict=True)
    ]
    together = replace(
        standing({k: (100, 300) for k in range(20)}),
        boxes=np.array(boxes),
        crops=tuple(one.crops[0] for one in alone),
    )
    for anchor in ("foot", "centre"):
        assert anchors_of(together, anchor) == [point for one in alone for point in anchors_of(one, anchor)]
        assert anchors_of(together[[]], anchor) == []


def test_the_centroid_is_the_centre_of_mass() -> None:
    assert anchors_of(placed(np.ones((10, 20), np.bool_), (100, 50, 120, 60)), "centre") == [(110.0, 55.0)]


@pytest.mark.parametrize("size", [(31, 33), (200, 80), (600, 900), (1, 500)])
def test_the_centroid_of_a_large_mask_is_nearly_the_centre_of_mass(size: tuple[int, int]) -> None:
    crop = np.zeros(size, np.uint8)
    corners = np.array([(0, 0), (size[1] - 1, size[0] // 3), (size[1] // 2, size[0] - 1)])
    mask = cv2.fillPoly(crop, [corners], 1).view(np.bool_)
    ((x, y),) = anchors_of(placed(mask, (0, 0, size[1], size[0])), "centre")
    rows, columns = np.nonzero(mask)
    assert abs(x - columns.mean() - 0.5) <= 0.01 * size[1]
    assert abs(y - rows.mean() - 0.5) <= 0.01 * size[0]


@pytest.mark.parametrize(("x", "kept"), [(100, True), (319, True), (322, False), (500, False)])
def test_a_region_keeps_what_lies_in_it_by_half(x: int, kept: bool) -> None:
    assert len(StreamFilter(region=[LEFT_HALF])(standing({1: (x, 300)}))) == kept


@pytest.mark.parametrize(("x", "kept"), [(100, False), (318, False), (322, True), (500, True)])
def test_an_ignored_place_leaves_out_what_lies_in_it_by_half(x: int, kept: bool) -> None:
    assert len(StreamFilter(ignore=[LEFT_HALF])(standing({1: (x, 300)}))) == kept


def test_two_regions_hold_an_object_together_two_ignored_places_do_not() -> None:
    left, right = LEFT_HALF, tuple((x + 0.5, y) for x, y in LEFT_HALF)
    found = standing({1: (320, 300)})
    assert len(StreamFilter(region=[left, right])(found)) == 1
    # exactly half of the box lies on each side
    assert len(StreamFilter(ignore=[left])(found)) == 0


def test_classes_and_score() -> None:
    found = standing({1: (100, 300), 2: (200, 300)})
    assert len(StreamFilter(classes=["car"])(found)) == 0
    assert len(StreamFilter(classes=["person"], score=0.9)(found)) == 2  # a float32 0.9 is not quite 0.9
    assert len(StreamFilter(score=0.91)(found)) == 0


def test_the_picture_may_change_its_size() -> None:
    keep = StreamFilter(region=[LEFT_HALF])
    assert len(keep(standing({1: (100, 300)}))) == 1
    small = Instances(
        height=40,
        width=40,
        class_ids=np.zeros(1, np.int64),
        labels=("person",),
        scores=np.ones(1, np.float32),
        boxes=np.array([[30, 0, 40, 10]]),
        crops=(np.ones((10, 10), np.bool_),),
        ids=(1,),
    )
    assert len(keep(small)) == 0
