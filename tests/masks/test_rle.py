"""Encoding from the crop against pycocotools' encoding of the full frame."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from streamseg.masks.rle import RunLengths, decode_mask, encode_crop

Box = tuple[int, int, int, int]


def full_frame(crop: NDArray[np.bool_], box: Box, height: int, width: int) -> NDArray[np.bool_]:
    full = np.zeros((height, width), dtype=np.bool_)
    full[box[1] : box[3], box[0] : box[2]] = crop
    return full


def reference(full: NDArray[np.bool_]) -> str:
    return coco_mask.encode(np.asfortranarray(full.astype(np.uint8)))["counts"].decode()


@st.composite
def crops(draw: st.DrawFn) -> tuple[NDArray[np.bool_], Box, int, int]:
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    x1, y1 = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    x2, y2 = draw(st.integers(x1 + 1, width)), draw(st.integers(y1 + 1, height))
    if draw(st.booleans()):
        y1, y2 = 0, height
    density = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    seed = draw(st.integers(0, 2**32 - 1))
    crop = np.random.default_rng(seed).random((y2 - y1, x2 - x1)) < density
    return crop, (x1, y1, x2, y2), height, width


@settings(max_examples=400, deadline=None)
@given(crops())
def test_equals_pycocotools_byte_for_byte(case: tuple[NDArray[np.bool_], Box, int, int]) -> None:
    crop, box, height, width = case
    full = full_frame(crop, box, height, width)
    encoded = encode_crop(crop, box, height, width)
    assert encoded == RunLengths(size=(height, width), counts=reference(full))
    decoded = decode_mask(encoded)
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, full)


@pytest.mark.parametrize(
    "box",
    [(0, 0, 1920, 1080), (0, 0, 1, 1080), (700, 0, 900, 1080), (1919, 1079, 1920, 1080), (0, 0, 1, 1)],
)
def test_large_frames_and_borders(box: Box) -> None:
    crop = np.ones((box[3] - box[1], box[2] - box[0]), dtype=np.bool_)
    full = full_frame(crop, box, 1080, 1920)
    encoded = encode_crop(crop, box, 1080, 1920)
    assert encoded.counts == reference(full)
    np.testing.assert_array_equal(decode_mask(encoded), full)


def test_empty_box_is_the_empty_mask() -> None:
    encoded = encode_crop(np.zeros((0, 0), dtype=np.bool_), (5, 5, 5, 5), 10, 20)
    assert encoded.counts == reference(np.zeros((10, 20), dtype=np.bool_))


@pytest.mark.parametrize("box", [(0, 0, 3, 2), (9, 0, 11, 2), (-1, 0, 1, 2)])
def test_crop_must_fit_its_box_and_the_box_the_frame(box: Box) -> None:
    with pytest.raises(ValueError, match="must hold a crop"):
        encode_crop(np.ones((2, 2), dtype=np.bool_), box, 10, 10)


@pytest.mark.parametrize("counts", ["", "5", "d", "j3P", "\x7f", "oooooooooooooooooooo0"])
def test_damaged_counts_are_an_error(counts: str) -> None:
    with pytest.raises(ValueError, match="run lengths"):
        decode_mask(RunLengths(size=(10, 10), counts=counts))
