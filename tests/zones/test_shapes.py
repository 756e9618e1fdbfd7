"""Points as fractions or pixels, the ground under a mask, and what a filter keeps."""

from __future__ import annotations

import numpy as np
import pytest

from streamseg.types import Instances
from streamseg.zones.anchors import centroid, foot_point
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
    assert area.tolist() == [[1] * 5 + [0] * 3] * 4


def test_the_foot_is_below_the_lowest_rows_of_the_largest_piece() -> None:
    crop = np.zeros((100, 60), np.bool_)
    crop[10:80, 20:50] = True
    crop[80:90, 20:30] = True  # a leg
    crop[95:100, 50:60] = True  # a stray piece, lower still
    assert foot_point(crop, [100, 200, 160, 300]) == (125.0, 290.0)


def test_the_centroid_is_the_centre_of_mass() -> None:
    assert centroid(np.ones((10, 20), np.bool_), [100, 50, 120, 60]) == (110.0, 55.0)


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
