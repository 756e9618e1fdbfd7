"""How large a picture is when it enters the network."""

import numpy as np
import pytest

from streamseg.models.input_size import geometry, padded, resize_picture
from streamseg.models.spec import InputSpec
from tests.support.oracle import Oracle

FIXED = InputSpec(canvas=(352, 480))


def test_oracle_rescale_sizes() -> None:
    oracle = Oracle("primitives")
    rows = [oracle.array(key) for key in oracle.keys("rescale_size/")]
    for row in np.concatenate([r.reshape(-1, 7) for r in rows]):
        height, width, *scale = (int(v) for v in row[:4])
        spec = InputSpec(long_side=max(scale), short_side=min(scale))
        assert geometry(height, width, spec).resized == (int(row[4]), int(row[5]))


@pytest.mark.parametrize(
    ("size", "resized"),
    [((576, 768), (352, 469)), ((1080, 1920), (270, 480)), ((1920, 1080), (352, 198)), ((1, 5000), (1, 480))],
)
def test_a_picture_fits_the_canvas(size: tuple[int, int], resized: tuple[int, int]) -> None:
    sizes = geometry(*size, FIXED)
    assert sizes.resized == resized
    assert sizes.canvas == (352, 480)


def test_without_a_canvas_sides_are_padded_to_multiples_of_32() -> None:
    sizes = geometry(480, 640, InputSpec())
    assert sizes.resized == (800, 1067)
    assert sizes.canvas == (800, 1088)


def test_pictures_of_a_batch_share_the_smallest_input_that_holds_them_all() -> None:
    assert padded([(32, 64)]) == (32, 64)
    assert padded([(33, 1), (1, 65)]) == (64, 96)


def test_a_picture_of_the_right_size_is_not_copied() -> None:
    picture = np.zeros((4, 6, 3), dtype=np.uint8)
    assert resize_picture(picture, (4, 6)) is picture
