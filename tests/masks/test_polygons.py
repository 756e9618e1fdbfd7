"""Outlines of masks, drawn again by the tools that read them."""

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from streamseg.masks.polygons import Part, Ring, edge_parts, join_rings, pixel_parts
from tests.support.stored import SHAPES, mask

CORNER = (7, 4)
MASKS = arrays(np.bool_, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def framed(crop: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask in a frame that is larger."""
    x, y = CORNER
    return np.pad(crop, ((y, 3), (x, 2)))


def filled_by_coco(rings: Sequence[Ring], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    runs = coco_mask.frPyObjects([ring.ravel().tolist() for ring in rings], *shape)
    return np.asarray(coco_mask.decode(coco_mask.merge(runs)), np.bool_)


def filled_by_opencv(parts: Sequence[Part], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    picture = np.zeros(shape, np.uint8)
    for part in parts:
        cv2.fillPoly(picture, [part.ring().astype(np.int32)], 1)
    return picture.astype(np.bool_)


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_outlines_along_edges_are_the_mask_for_coco(crop: NDArray[np.bool_]) -> None:
    parts = edge_parts(crop, CORNER)
    full = framed(crop)
    if not crop.any():
        assert parts == []
        return
    rings = [part.ring() for part in parts]
    np.testing.assert_array_equal(filled_by_coco(rings, full.shape), full)
    np.testing.assert_array_equal(filled_by_coco([join_rings(rings)], full.shape), full)


@settings(max_examples=100, deadline=None)
@given(MASKS)
def test_outlines_through_pixels_are_the_mask_for_opencv(crop: NDArray[np.bool_]) -> None:
    full = framed(crop)
    np.testing.assert_array_equal(filled_by_opencv(pixel_parts(crop, CORNER), full.shape), full)


@pytest.mark.parametrize("shape", SHAPES)
def test_pieces_and_holes_are_told_apart(shape: str) -> None:
    full = mask(shape)
    pieces, _ = cv2.connectedComponents(full.view(np.uint8), connectivity=8)
    holes, _ = cv2.connectedComponents(np.pad(~full, 1, constant_values=True).view(np.uint8), connectivity=4)
    for parts in (edge_parts(full, (0, 0)), pixel_parts(full, (0, 0))):
        assert len(parts) == pieces - 1
        assert sum(len(part.holes) for part in parts) == holes - 2


def test_the_largest_piece_comes_first() -> None:
    first, *_ = edge_parts(mask("pieces"), (0, 0))
    assert first.outer.min(axis=0).tolist() == [40, 4]


def test_a_tolerance_saves_corners_and_stays_within_it() -> None:
    rows, columns = np.mgrid[:200, :300]
    ellipse = ((rows - 100) / 90) ** 2 + ((columns - 150) / 140) ** 2 < 1
    exact, rough = (edge_parts(ellipse, (0, 0), tolerance=t)[0].outer for t in (0.0, 1.0))
    assert len(rough) < len(exact) / 8
    off = filled_by_coco([rough], ellipse.shape) != ellipse
    near = cv2.dilate(ellipse.view(np.uint8), np.ones((5, 5))) != cv2.erode(
        ellipse.view(np.uint8), np.ones((5, 5))
    )
    assert off.any()
    assert not (off & ~near).any()


def test_a_tolerance_leaves_what_is_small() -> None:
    (part,) = edge_parts(mask("dot"), (0, 0), tolerance=50.0)
    np.testing.assert_array_equal(filled_by_coco([part.ring()], (48, 64)), mask("dot"))
