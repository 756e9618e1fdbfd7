"""Submit, wait, finish: what each of them does, and what a ticket still holds after it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, current_thread

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamseg.inference import Segmenter, prepare, segmenter
from streamseg.inference.finish import SoftMasks
from streamseg.models.spec import InputSpec
from streamseg.types import Instances
from tests.support.batches import segment_batch
from tests.support.broker import wait_for
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


def test_submitting_only_starts_what_others_do(
    model: Segmenter, expected: list[Instances], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the network has a batch, the next one is submitted, and its pictures are prepared."""
    let_go, resizing, networks = Event(), list[str](), list[str]()
    network, resize = model._network, prepare.resize_picture

    def slow_network(images: torch.Tensor) -> object:
        assert let_go.wait(60)
        networks.append(current_thread().name)
        return network(images)

    def watched_resize(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
        resizing.append(current_thread().name)
        return resize(picture, size)

    monkeypatch.setattr(model, "_network", slow_network)
    monkeypatch.setattr(prepare, "resize_picture", watched_resize)
    first, second = model.submit(PICTURES), model.submit(PICTURES)
    wait_for(lambda: len(resizing) == 2 * len(PICTURES))
    assert not networks
    let_go.set()
    for ticket in (first, second):
        model.wait(ticket)
        assert_equal(model.finish(ticket, 3), expected[3])
    assert current_thread().name not in {*resizing, *networks}
    assert len(set(networks)) == 1, "batch after batch, as on a device"


def test_a_cpu_is_given_no_more_than_it_can_begin_with(
    model: Segmenter, expected: list[Instances], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A third batch waits outside, and none is lost."""
    let_go, tickets = Event(), list[segmenter.BatchTicket]()
    network = model._network

    def slow_network(images: torch.Tensor) -> object:
        assert let_go.wait(60)
        return network(images)

    monkeypatch.setattr(model, "_network", slow_network)
    with ThreadPoolExecutor(1) as user:
        done = user.submit(lambda: [tickets.append(model.submit(PICTURES)) for _ in range(4)])
        wait_for(lambda: len(tickets) == 2)
        assert not done.done()
        let_go.set()
        done.result(60)
    for ticket in tickets:
        model.wait(ticket)
        assert_equal(model.finish(ticket, 0), expected[0])


def test_a_network_that_fails_makes_room_for_the_next_batch(
    model: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(images: torch.Tensor) -> object:
        raise RuntimeError("the network is broken")

    monkeypatch.setattr(model, "_network", broken)
    for _ in range(5):
        ticket = model.submit(PICTURES[:1])
        with pytest.raises(RuntimeError, match="the network is broken"):
            model.wait(ticket)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((120, 160), np.uint8),
        np.zeros((120, 160, 4), np.uint8),
        np.zeros((120, 160, 3), np.float32),
        np.zeros((0, 160, 3), np.uint8),
    ],
    ids=lambda picture: f"{picture.shape} {picture.dtype}",
)
def test_what_is_no_picture_is_refused(model: Segmenter, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"a picture is \(height, width, 3\) uint8 RGB, got \("):
        model.submit([PICTURES[0], picture])


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
