"""Pixels that are not square."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from streamseg.results.frame_result import run_lengths_of
from streamseg.runtime.aspect import as_shown, in_source_pixels, resized, shown_size
from streamseg.types import Frame, Instances
from tests.support.clips import TIME_BASE, instances


def frame(height: int, width: int, aspect: Fraction) -> Frame:
    pixels = np.zeros((height, width, 3), np.uint8)
    return Frame("cam", 0, 0, 0, TIME_BASE, 0.0, pixels, pixel_aspect=aspect)


@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(1), (288, 360)), (Fraction(64, 45), (288, 512)), (Fraction(1, 2), (576, 360))],
)
def test_the_network_sees_square_pixels(aspect: Fraction, size: tuple[int, int]) -> None:
    taken = frame(288, 360, aspect)
    assert as_shown(taken).shape == (*size, 3)
    assert shown_size(288, 360, aspect) == size


def test_square_pixels_cost_nothing() -> None:
    taken, found = frame(48, 64, Fraction(1)), instances((64, 48), [(1, 2, 30, 40)])
    assert as_shown(taken) is taken.pixels
    assert in_source_pixels(taken, lambda: found) is found


def test_results_are_in_pixels_of_the_source() -> None:
    found = instances((512, 288), [(128, 10, 256, 110), (0, 0, 512, 288)])
    there = in_source_pixels(frame(288, 360, Fraction(64, 45)), lambda: found)
    assert (there.height, there.width) == (288, 360)
    assert there.boxes.tolist() == [[90, 10, 180, 110], [0, 0, 360, 288]]
    assert [crop.shape for crop in there.crops] == [(100, 90), (288, 360)]
    assert there.crops[0].all()


def test_an_object_without_a_pixel_is_left_out() -> None:
    there = resized(instances((512, 288), [(1, 0, 2, 288), (10, 10, 100, 100)]), 288, 64)
    assert len(there) == 1
    assert there.scores.tolist() == pytest.approx([0.5])


@pytest.mark.parametrize("seed", range(5))
def test_masks_stay_what_they_are(seed: int) -> None:
    """Each source pixel is what the shown pixel at its centre is."""
    rng = np.random.default_rng(seed)
    mask = rng.random((40, 96)) > 0.6
    ys, xs = np.nonzero(mask)
    box = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    found = Instances(
        40,
        96,
        np.zeros(1, np.int64),
        ("a",),
        np.ones(1, np.float32),
        np.array([box], np.int64),
        (mask[box[1] : box[3], box[0] : box[2]],),
    )
    there = resized(found, 40, 61)
    columns = ((np.arange(61) + 0.5) * 96 / 61).astype(int)
    assert (there.masks()[0] == mask[:, columns]).all()


def test_run_lengths_of_the_other_size_are_left_behind() -> None:
    found = instances((80, 40), [(10, 10, 50, 30)])
    encoded = replace(found, run_lengths=run_lengths_of(found))
    small = resized(encoded, 40, 64)
    assert [tuple(rle.size) for rle in run_lengths_of(small)] == [(40, 64)]
