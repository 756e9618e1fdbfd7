"""Results and instances in other programs' hands: supervision, and notebooks."""

from __future__ import annotations

import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from streamseg.errors import UsageError
from streamseg.results.frame_result import instances_of
from streamseg.types import FrameResult, Instances
from tests.support.stored import SIZE, drawn, mask, stored

LABELS = ("person", "car", "bicycle")


def both(found: Instances) -> tuple[Instances, FrameResult]:
    """Instances, and the result that is made of them."""
    return found, stored(found)[0]


@pytest.mark.parametrize("place", [0, 1])
def test_detections_say_what_the_objects_are(place: int) -> None:
    found = both(drawn("ring", "pieces", "dot", ids=(7, None, 2), labels=LABELS))[place]
    detections = found.to_supervision()
    assert len(detections) == 3
    assert detections.xyxy.tolist()[2] == [10, 40, 11, 41]
    assert detections.mask is not None
    assert detections.mask.dtype == np.bool_
    for one, shape in zip(detections.mask, ("ring", "pieces", "dot"), strict=True):
        np.testing.assert_array_equal(one, mask(shape))
    assert detections.class_id.tolist() == [0, 2, 1]
    np.testing.assert_allclose(detections.confidence, [0.9, 0.7, 0.5])
    assert detections.tracker_id.tolist() == [7, -1, 2]
    assert detections["class_name"].tolist() == list(LABELS)
    assert detections[detections["class_name"] == "car"].tracker_id.tolist() == [-1]
    np.testing.assert_array_equal(detections.area, [mask(s).sum() for s in ("ring", "pieces", "dot")])


@pytest.mark.parametrize("place", [0, 1])
def test_without_tracking_there_is_no_tracker_id(place: int) -> None:
    assert both(replace(drawn("ring"), ids=()))[place].to_supervision().tracker_id is None


@pytest.mark.parametrize("place", [0, 1])
def test_no_objects_are_no_detections(place: int) -> None:
    detections = both(drawn())[place].to_supervision()
    assert len(detections) == 0
    assert detections.mask.shape == (0, SIZE[1], SIZE[0])
    assert detections["class_name"].tolist() == []


def test_supervision_draws_them() -> None:
    supervision = pytest.importorskip("supervision")
    found = drawn("ring", "dot", ids=(7, 2))
    scene = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    painted = supervision.MaskAnnotator(opacity=1.0).annotate(scene.copy(), found.to_supervision())
    np.testing.assert_array_equal((painted != 0).any(axis=2), mask("ring") | mask("dot"))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    for found in both(drawn("ring")):
        with pytest.raises(UsageError, match=r"pip install 'streamseg\[supervision\]'"):
            found.to_supervision()


def test_what_a_mask_expression_selects_is_converted() -> None:
    found = drawn("ring", "pieces", "dot", ids=(7, 5, 2), labels=LABELS)
    assert found[found.scores > 0.6].to_supervision().tracker_id.tolist() == [7, 5]
    assert found[np.array(found.labels) == "car"].to_supervision().tracker_id.tolist() == [5]
    assert found[1:].to_supervision().tracker_id.tolist() == [5, 2]


def shown(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR_RGB), np.uint8)


def test_a_notebook_shows_the_masks_on_grey() -> None:
    found, result = both(drawn("noise", ids=(3,)))
    picture = shown(found._repr_png_())
    assert picture.shape == (SIZE[1], SIZE[0], 3)
    np.testing.assert_array_equal(picture, shown(result._repr_png_()))
    np.testing.assert_array_equal(picture, shown(instances_of(result)._repr_png_()))
    y, x = np.argwhere(mask("noise"))[-1]
    assert len(set(picture[y, x].tolist())) > 1
    assert picture[-1, -1].tolist() == [40, 40, 40]


def test_nothing_found_is_a_grey_picture() -> None:
    for found in both(drawn()):
        assert np.unique(shown(found._repr_png_())).tolist() == [40]
