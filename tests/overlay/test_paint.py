from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from streamseg.overlay.paint import paint
from streamseg.overlay.palette import PALETTE
from tests.support.clips import instances


def grey(width: int, height: int) -> NDArray[np.uint8]:
    picture = np.full((height, width, 3), 100, np.uint8)
    picture.flags.writeable = False
    return picture


def test_no_instances_is_an_equal_copy() -> None:
    picture = grey(64, 48)
    painted = paint(picture, instances())
    np.testing.assert_array_equal(painted, picture)
    assert painted is not picture
    assert painted.flags.writeable


def test_fill_is_a_mix_inside_the_mask_and_nothing_outside() -> None:
    picture = grey(640, 480)
    found = instances((640, 480), [(200, 200, 400, 400)])
    crop = found.crops[0].copy()
    crop[:, 100:] = False
    painted = paint(picture, replace(found, crops=(crop,)))
    middle = painted[350, 250].astype(float)
    expected = 0.58 * 100 + 0.42 * np.array(PALETTE[0])
    np.testing.assert_allclose(middle, expected, atol=1.5)
    np.testing.assert_array_equal(painted[350, 310:], picture[350, 310:])
    np.testing.assert_array_equal(painted[410:], picture[410:])


def test_holes_stay_open() -> None:
    found = instances((640, 480), [(200, 200, 400, 400)])
    crop = found.crops[0].copy()
    crop[80:160, 80:160] = False
    painted = paint(grey(640, 480), replace(found, crops=(crop,)))
    np.testing.assert_array_equal(painted[320, 320], [100, 100, 100])


def test_outline_is_smooth() -> None:
    """A slanting edge has pixels between the outline's colour and the picture's."""
    found = instances((640, 480), [(200, 200, 400, 400)])
    crop = np.tri(200, dtype=np.bool_)
    painted = paint(grey(640, 480), replace(found, crops=(crop,)))
    across = painted[300, 296:310, 0].astype(int)
    assert len(set(across.tolist()) - {100}) >= 3


def test_colour_follows_the_id_through_time() -> None:
    found = instances((640, 480), [(20, 200, 120, 300), (400, 200, 500, 300)])
    before = paint(grey(640, 480), found)
    swapped = replace(found, boxes=found.boxes[::-1].copy(), ids=(1, 0))
    after = paint(grey(640, 480), swapped)
    np.testing.assert_array_equal(before[270, 70], after[270, 70])


def test_without_ids_neighbours_differ() -> None:
    found = replace(instances((640, 480), [(20, 200, 120, 300), (400, 200, 500, 300)]), ids=())
    painted = paint(grey(640, 480), found)
    assert (painted[270, 70] != painted[270, 450]).any()


@pytest.mark.parametrize(
    "box", [(0, 0, 5, 5), (635, 475, 640, 480), (0, 475, 1, 480), (639, 0, 640, 1), (0, 0, 640, 480)]
)
def test_labels_stay_in_the_picture(box: tuple[int, int, int, int]) -> None:
    """A plate is drawn whole wherever the box is: black text on the first colour, plus that colour."""
    painted = paint(grey(640, 480), instances((640, 480), [box]))
    plate = (painted == PALETTE[0]).all(axis=2)
    assert plate.sum() > 600
    rows, columns = np.flatnonzero(plate.any(axis=1)), np.flatnonzero(plate.any(axis=0))
    assert np.ptp(columns) > 60
    assert np.ptp(rows) > 8


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (33, 47), (1921, 1081)])
def test_any_size(size: tuple[int, int]) -> None:
    boxes = [(0, 0, *size), (0, 0, 1, 1)]
    assert paint(grey(*size), instances(size, boxes)).shape == (size[1], size[0], 3)


def test_labels_scale_with_the_picture() -> None:
    small = paint(grey(640, 480), instances((640, 480), [(200, 200, 210, 210)]))
    large = paint(grey(3840, 2160), instances((3840, 2160), [(200, 200, 210, 210)]))
    assert (large != 100).any(axis=2).sum() > 8 * (small != 100).any(axis=2).sum()
