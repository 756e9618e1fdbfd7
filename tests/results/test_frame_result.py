from dataclasses import replace

import msgspec
import numpy as np
import pytest

from streamseg.results.frame_result import instances_of, run_lengths_of
from streamseg.types import FrameResult, Instances
from tests.support.clips import frame, instances, result_of


def test_result_says_what_the_instances_hold() -> None:
    found = instances(boxes=[(10, 5, 30, 40), (0, 0, 64, 48)])
    result = result_of(frame(7, at=1000.12345), found)
    assert (result.v, result.stream, result.epoch, result.frame) == (1, "cam", 0, 7)
    assert (result.pts, result.time, result.width, result.height) == (0.28, 1000.123, 64, 48)
    first = result.instances[0]
    assert (first.id, first.label, first.score) == (0, "person", 0.9)
    assert (first.box, first.area) == ((10.0, 5.0, 30.0, 40.0), 20 * 35)
    np.testing.assert_array_equal(np.stack([i.mask for i in result.instances]), found.masks())


def test_json_has_the_contracts_keys_and_comes_back_equal() -> None:
    found = instances(boxes=[(10, 5, 30, 40)])
    text = msgspec.json.encode(result := result_of(frame(7), found))
    assert list(msgspec.json.decode(text)) == [
        *(
            "v",
            "stream",
            "epoch",
            "frame",
            "pts",
            "time",
            "width",
            "height",
            "latency_ms",
            "model",
            "instances",
        ),
    ]
    instance = msgspec.json.decode(text)["instances"][0]
    assert list(instance) == ["id", "label", "class_id", "score", "box", "area", "mask"]
    assert instance["mask"]["size"] == [48, 64]
    assert msgspec.json.decode(text, type=FrameResult) == result


def test_no_tracking_no_ids() -> None:
    crops = (np.ones((2, 2), np.bool_),)
    found = Instances(
        48, 64, np.zeros(1, np.int64), ("cat",), np.ones(1, np.float32), np.array([[0, 0, 2, 2]]), crops
    )
    assert result_of(frame(0), found).instances[0].id is None


def test_run_lengths_that_are_there_are_not_made_again() -> None:
    found = instances(boxes=[(10, 5, 30, 40), (0, 0, 64, 48)])
    made = run_lengths_of(found)
    kept = replace(found, run_lengths=made)
    assert run_lengths_of(kept) is made
    assert run_lengths_of(kept[[1]]) == (made[1],)
    assert result_of(frame(7), kept).instances == result_of(frame(7), found).instances


def test_instances_come_back_from_a_result() -> None:
    found = instances(boxes=[(10, 5, 30, 40), (0, 0, 64, 48)])
    again = instances_of(result_of(frame(7), found))
    assert (again.labels, again.ids, again.height, again.width) == (found.labels, found.ids, 48, 64)
    assert again.run_lengths == run_lengths_of(found)
    np.testing.assert_array_equal(again.boxes, found.boxes)
    np.testing.assert_array_equal(again.masks(), found.masks())
    np.testing.assert_allclose(again.scores, found.scores, atol=5e-5)


def test_a_box_outside_of_its_picture_is_refused() -> None:
    result = result_of(frame(7), instances(boxes=[(10, 5, 30, 40)]))
    (instance,) = result.instances
    outside = msgspec.structs.replace(instance, box=(50.0, 5.0, 70.0, 40.0))
    with pytest.raises(ValueError, match="must fill its box"):
        instances_of(msgspec.structs.replace(result, instances=(outside,)))
