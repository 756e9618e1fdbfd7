"""Ids that stay with an object."""

from dataclasses import replace

import numpy as np
import pytest

from streamseg.runtime.tracking import Tracker
from streamseg.types import Instances


def instances(*boxes: tuple[int, int, int, int], score: float = 0.8) -> Instances:
    crops = tuple(np.ones((y2 - y1, x2 - x1), dtype=bool) for x1, y1, x2, y2 in boxes)
    return Instances(
        height=200,
        width=400,
        class_ids=np.zeros(len(boxes), dtype=np.int64),
        labels=("person",) * len(boxes),
        scores=np.full(len(boxes), score, dtype=np.float32),
        boxes=np.array(boxes, dtype=np.int64).reshape(-1, 4),
        crops=crops,
    )


def walk(tracker: Tracker, step: int) -> Instances:
    """Two people who walk towards each other's sides, far apart; the order in the list changes."""
    left, right = (10 + 4 * step, 20, 50 + 4 * step, 120), (300 - 4 * step, 20, 340 - 4 * step, 120)
    return tracker.update(instances(*((left, right) if step % 2 else (right, left))), time=step / 25)


def test_ids_follow_the_objects() -> None:
    tracker = Tracker(fps=25)
    seen = [walk(tracker, step) for step in range(12)]
    left = [i.ids[list(i.boxes[:, 0]).index(min(i.boxes[:, 0]))] for i in seen[2:]]
    right = [i.ids[list(i.boxes[:, 0]).index(max(i.boxes[:, 0]))] for i in seen[2:]]
    assert len(set(left)) == len(set(right)) == 1
    assert None not in {*left, *right}
    assert set(left) != set(right)


def test_an_object_keeps_its_id_behind_a_lamp_post() -> None:
    tracker = Tracker(fps=25)
    before = [walk(tracker, step) for step in range(6)][-1]
    for step in range(6, 11):
        assert len(tracker.update(instances(), time=step / 25)) == 0
    after = [walk(tracker, step) for step in range(11, 14)][-1]
    assert set(after.ids) == set(before.ids)


def test_a_stray_piece_of_a_mask_does_not_cost_the_id() -> None:
    tracker = Tracker(fps=25)
    for step in range(8):
        x = 10 + 4 * step
        found = instances((x, 20, x + 40, 120))
        if step == 6:  # three pixels far away are found to be part of the object
            crop = np.zeros((170, 350), dtype=bool)
            crop[:100, :40] = crop[-1, -3:] = True
            box = np.array([[x, 20, x + 350, 190]])
            found = replace(found, boxes=box, crops=(crop,))
        tracked = tracker.update(found, time=step / 25)
        if step == 4:
            before = tracked.ids
    assert tracked.ids == before
    assert None not in before


def test_frames_without_objects_are_fine() -> None:
    tracker = Tracker(fps=None)
    assert tracker.update(instances(), time=0.0).ids == ()


@pytest.mark.parametrize("score", [0.31, 0.35])
def test_a_faint_object_begins_no_track(score: float) -> None:
    tracker = Tracker(fps=25)
    for step in range(3):
        tracked = tracker.update(instances((10, 10, 60, 110), score=score), time=step / 25)
    assert tracked.ids == (None,)


def test_memory_is_in_seconds_however_many_frames_are_left_out() -> None:
    tracker = Tracker(fps=25)
    box = (100, 20, 140, 120)
    for time in (0.0, 0.4, 0.8):
        known = tracker.update(instances(box), time=time)
    assert None not in known.ids
    assert tracker.update(instances(box), time=30.0).ids != known.ids


def test_repeated_and_backward_timestamps_are_borne() -> None:
    tracker = Tracker(fps=25)
    seen = [tracker.update(instances((100, 20, 140, 120)), time=t) for t in (1.0, 1.0, 0.5, 1.04)]
    assert seen[-1].ids == seen[-2].ids != (None,)
