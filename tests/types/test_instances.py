"""Instances and results: how they are selected, what they refuse, how they read."""

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamseg.masks.rle import RunLengths
from streamseg.types import Instances
from tests.support.clips import frame, instances, result_of

WIDTH, HEIGHT = 64, 48


@st.composite
def any_instances(draw: st.DrawFn) -> Instances:
    """0 to 6 objects with random masks, with track ids or without."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(0, 6))
    x1, y1 = rng.integers(0, WIDTH - 1, n), rng.integers(0, HEIGHT - 1, n)
    x2, y2 = rng.integers(x1 + 1, WIDTH + 1), rng.integers(y1 + 1, HEIGHT + 1)
    boxes = np.stack((x1, y1, x2, y2), axis=1).astype(np.int64)
    return Instances(
        height=HEIGHT,
        width=WIDTH,
        class_ids=np.arange(n),
        labels=tuple(f"class {k}" for k in range(n)),
        scores=np.sort(rng.random(n, dtype=np.float32))[::-1],
        boxes=boxes,
        crops=tuple(rng.random((b - t, r - a)) < 0.5 for a, t, r, b in boxes.tolist()),
        ids=tuple(range(10, 10 + n)) if draw(st.booleans()) else (),
    )


def selections(n: int) -> st.SearchStrategy[Any]:
    """Whatever selects some of ``n`` things."""
    numbers = st.lists(st.integers(-n, n - 1), max_size=8) if n else st.just([])
    masks = st.lists(st.booleans(), min_size=n, max_size=n)
    return st.one_of(
        st.slices(n),
        numbers,
        numbers.map(lambda values: np.array(values, np.int64)),
        masks.map(lambda values: np.array(values, np.bool_)),
        *([st.integers(-n, n - 1), st.integers(-n, n - 1).map(np.int64)] if n else []),
    )


@given(found=any_instances(), data=st.data())
def test_a_selection_is_numpys(found: Instances, data: st.DataObject) -> None:
    key = data.draw(selections(len(found)))
    numbers = np.atleast_1d(
        np.arange(len(found))[np.array(key, np.int64) if isinstance(key, list) and not key else key]
    )
    chosen = found[key]
    assert isinstance(chosen, Instances)
    assert (len(chosen), chosen.height, chosen.width) == (len(numbers), HEIGHT, WIDTH)
    assert chosen.class_ids.tolist() == numbers.tolist()
    assert chosen.labels == tuple(f"class {k}" for k in numbers)
    assert chosen.ids == (tuple((10 + numbers).tolist()) if found.ids else ())
    np.testing.assert_array_equal(chosen.scores, found.scores[numbers])
    np.testing.assert_array_equal(chosen.boxes, found.boxes[numbers])
    np.testing.assert_array_equal(chosen.masks(), found.masks()[numbers])


@given(found=any_instances())
def test_iteration_gives_one_after_the_other(found: Instances) -> None:
    assert [one.labels for one in found] == [(label,) for label in found.labels]
    assert all(len(one) == 1 for one in found)


def test_a_list_of_truths_is_a_mask() -> None:
    found = instances(boxes=[(0, 0, 4, 4), (5, 5, 9, 9), (1, 1, 3, 3)])
    assert found[[True, False, True]].ids == (0, 2)


@pytest.mark.parametrize(
    "key", [2, -3, [0, 2], np.ones(3, np.bool_), np.ones((2, 2), np.int64), True, np.array(0), [0.5]]
)
def test_what_selects_nothing_that_is_there_is_refused(key: Any) -> None:
    with pytest.raises(IndexError):
        instances(boxes=[(0, 0, 4, 4), (5, 5, 9, 9)])[key]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"class_ids": np.zeros(3, np.int64)}, "must have one length"),
        ({"labels": ("person",)}, "must have one length"),
        ({"scores": np.zeros((2, 1), np.float32)}, "must have one length"),
        ({"crops": ()}, "must have one length"),
        ({"boxes": np.zeros((2, 5), np.int64)}, r"boxes must be \(N, 4\) with N = 2, got \(2, 5\)"),
        ({"boxes": np.zeros(8, np.int64)}, r"boxes must be \(N, 4\)"),
        ({"ids": (1,)}, "ids must be empty or 2, got 1"),
        ({"run_lengths": (RunLengths((48, 64), ""),)}, "run_lengths must be empty or 2, got 1"),
        ({"run_lengths": (RunLengths((64, 48), ""),) * 2}, r"run lengths must be of \(48, 64\), got"),
        (
            {"boxes": np.array([[0, 0, 4, 4], [5, 5, 9, 10]])},
            r"a crop must fill its box \(5, 5, 9, 10\), got \(4, 4\)",
        ),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(changes: dict[str, Any], expected: str) -> None:
    found = instances(boxes=[(0, 0, 4, 4), (5, 5, 9, 9)])
    values = {name: getattr(found, name) for name in Instances.__slots__}
    with pytest.raises(ValueError, match=expected):
        Instances(**(values | changes))


def test_the_checks_take_microseconds() -> None:
    found = instances(boxes=[(k, k, k + 8, k + 8) for k in range(20)])
    best = float("inf")
    for _ in range(50):
        started = time.perf_counter()
        found.__post_init__()
        best = min(best, time.perf_counter() - started)
    assert best < 100e-6  # some 6 on a core that is not shared


def test_a_repr_says_what_was_found() -> None:
    found = instances(boxes=[(0, 0, 4, 4), (5, 5, 9, 9)])
    assert repr(found) == "Instances(2 in 64x48: person 0.90 #0, person 0.50 #1)"
    assert repr(instances()) == "Instances(0 in 64x48)"
    assert repr(instances(boxes=[(0, 0, 4, 4)] * 6)).endswith("person 0.58 #4, ...)")
    untracked = Instances(
        *(
            getattr(found, name)
            for name in ("height", "width", "class_ids", "labels", "scores", "boxes", "crops")
        )
    )
    assert "person 0.90, person 0.50)" in repr(untracked)


def test_a_repr_of_a_result_leaves_out_the_run_lengths() -> None:
    result = result_of(frame(7, at=1000.0), instances(boxes=[(10, 5, 30, 40)]))
    assert repr(result) == "FrameResult(cam, epoch 0, frame 7 at 0.28 s: 1 in 64x48: person 0.90 #0)"
    assert repr(result.instances[0]) == "InstanceResult(person 0.90 #0, box (10, 5, 30, 40), 700 pixels)"
    assert repr(result_of(frame(7))).endswith("0 in 64x48)")
