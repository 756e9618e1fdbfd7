"""Submit, wait, finish: what each of them does, and what a ticket still holds after it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from streamseg.inference import Segmenter, segmenter
from streamseg.inference.finish import SoftMasks
from streamseg.models.spec import InputSpec
from streamseg.types import Instances
from tests.support.batches import segment_batch
from tests.support.lively import make_detector

STAGES_OF_THE_DEVICE = ["preprocess", "forward", "postprocess"]
PICTURES = [np.random.default_rng(k).integers(0, 256, size=(120, 160, 3), dtype=np.uint8) for k in range(6)]


class Stages:
    """A meter that keeps the names of stages."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def batch(self, size: int) -> None: ...

    def stage(self, name: str, seconds: float) -> None:
        assert seconds >= 0
        self.told.append(name)


@pytest.fixture(scope="module")
def stages() -> Stages:
    return Stages()


@pytest.fixture(scope="module")
def model(stages: Stages) -> Segmenter:
    detector = make_detector("decoupled_solo")
    detector.spec = detector.spec.model_copy(update={"input": InputSpec(long_side=160, short_side=128)})
    return Segmenter(detector, name="small", device="cpu", precision="fp32", score=0.1, meter=stages)


@pytest.fixture(scope="module")
def expected(model: Segmenter) -> list[Instances]:
    found = segment_batch(model, PICTURES)
    assert all(len(one) > 1 for one in found)
    return found


def assert_equal(ours: Instances, expected: Instances) -> None:
    assert (ours.height, ours.width, ours.labels) == (expected.height, expected.width, expected.labels)
    for name in ("class_ids", "scores", "boxes"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(expected, name))
    for mine, theirs in zip(ours.crops, expected.crops, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_waiting_does_no_work_of_the_host(
    model: Segmenter, stages: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[tuple[int, int]] = []
    monkeypatch.setattr(segmenter, "make_instances", lambda _, sizes, **__: finished.append(sizes.source))
    stages.told.clear()
    ticket = model.submit(PICTURES)
    model.wait(ticket)
    assert not finished
    assert stages.told == STAGES_OF_THE_DEVICE
    model.finish(ticket, 1)
    assert finished == [(120, 160)]
    assert stages.told == [*STAGES_OF_THE_DEVICE, "finish"]


def test_pictures_are_finished_in_any_order(model: Segmenter, expected: list[Instances]) -> None:
    ticket = model.submit(PICTURES)
    model.wait(ticket)
    for k in (1, 0, 5, 2, 4, 3):
        assert_equal(model.finish(ticket, k), expected[k])


def test_pictures_are_finished_at_the_same_time(model: Segmenter, expected: list[Instances]) -> None:
    together = Barrier(len(PICTURES))

    def finish(k: int) -> Instances:
        together.wait(timeout=60)
        return model.finish(ticket, k)

    with ThreadPoolExecutor(len(PICTURES)) as pool:
        for _ in range(5):
            ticket = model.submit(PICTURES)
            model.wait(ticket)
            for ours, theirs in zip(pool.map(finish, range(len(PICTURES))), expected, strict=True):
                assert_equal(ours, theirs)


def test_the_next_batch_may_be_submitted_before_a_picture_is_finished(
    model: Segmenter, expected: list[Instances]
) -> None:
    first = model.submit(PICTURES[:3])
    second = model.submit(PICTURES[3:])
    model.wait(first)
    model.wait(second)
    for k in range(3):
        assert_equal_but_for_rounding(model.finish(second, k), expected[3 + k])
        assert_equal_but_for_rounding(model.finish(first, k), expected[k])


def assert_equal_but_for_rounding(ours: Instances, expected: Instances) -> None:
    """Batches of different size are added up in a different order."""
    assert ours.labels == expected.labels
    np.testing.assert_allclose(ours.scores, expected.scores, atol=0.02)


def test_a_ticket_holds_only_what_the_next_call_needs(model: Segmenter) -> None:
    ticket = model.submit(PICTURES[:2])
    assert ticket.computing is not None
    model.wait(ticket)
    assert ticket.computing is None, "the network's output"
    soft_masks = [
        found.masks.values for found in ticket.found if found and isinstance(found.masks, SoftMasks)
    ]
    assert len(soft_masks) == 2
    assert all(masks.base is None for masks in soft_masks), "of the instances found, not of more"
    model.finish(ticket, 1)
    assert ticket.found[0] is not None
    assert ticket.found[1] is None, "soft masks"


def test_a_picture_is_finished_once(model: Segmenter) -> None:
    ticket = model.submit(PICTURES[:1])
    with pytest.raises(AssertionError, match="after its batch was waited for"):
        model.finish(ticket, 0)
    model.wait(ticket)
    model.finish(ticket, 0)
    with pytest.raises(AssertionError, match="finished once"):
        model.finish(ticket, 0)
