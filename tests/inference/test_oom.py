"""Without room for a batch on the device, the guard does it in halves; waiting leaves nothing to be done."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamseg.config import ModelConfig
from streamseg.errors import RunError
from streamseg.inference import OomGuard, Segmenter
from streamseg.types import Instances
from tests.support.batches import segment_batch

Pictures = Sequence[NDArray[np.uint8]]
ROW = [np.full((64, 96, 3), number, dtype=np.uint8) for number in range(8)]


@dataclass
class NumbersTicket:
    numbers: list[int]
    waited_for: bool = False
    finished: list[int] = field(default_factory=list)


class SmallDevice:
    """Finds the number of each picture, as its class; has no room for more than a number of pictures."""

    name = "small"
    classes = tuple(f"number {k}" for k in range(8))

    def __init__(self, room: int, *, step: str = "submit") -> None:
        """``step``, submit or wait, runs out of memory."""
        self.room, self.step = room, step
        self.batches: list[int] = []
        self.tickets: list[NumbersTicket] = []

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def submit(self, pictures: Pictures) -> NumbersTicket:
        self._fit("submit", len(pictures))
        self.batches.append(len(pictures))
        self.tickets.append(NumbersTicket([int(picture[0, 0, 0]) for picture in pictures]))
        return self.tickets[-1]

    def wait(self, ticket: NumbersTicket) -> None:
        self._fit("wait", len(ticket.numbers))
        ticket.waited_for = True

    def finish(self, ticket: NumbersTicket, k: int) -> Instances:
        assert ticket.waited_for
        assert k not in ticket.finished
        ticket.finished.append(k)
        class_ids = np.array([ticket.numbers[k]])
        labels = (self.classes[ticket.numbers[k]],)
        box = np.array([[0, 0, 1, 1]])
        return Instances(64, 96, class_ids, labels, np.ones(1, np.float32), box, (np.ones((1, 1), bool),))

    def _fit(self, step: str, count: int) -> None:
        if step == self.step and count > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def numbers(found: Sequence[Instances]) -> list[int]:
    return [int(one.class_ids[0]) for one in found]


@pytest.mark.parametrize("step", ["submit", "wait"])
@pytest.mark.parametrize("room", [1, 3])
def test_without_room_for_a_batch_it_goes_on_with_halves(
    step: str, room: int, caplog: pytest.LogCaptureFixture
) -> None:
    device = SmallDevice(room, step=step)
    guard = OomGuard(device)
    for _ in range(2):
        assert numbers(segment_batch(guard, ROW)) == list(range(8))
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == len(set(warnings)) == {1: 3, 3: 2}[room], "8 to 4 to 2 (to 1), each told once"
    assert "out of device memory with 8 pictures at a time, going on with 4" in warnings[0]
    largest = {1: 1, 3: 2}[room]
    assert device.batches[-(8 // largest) :] == [largest] * (8 // largest), "the second batch, at once"


@pytest.mark.parametrize("step", ["submit", "wait"])
def test_after_waiting_every_part_is_done(step: str) -> None:
    device = SmallDevice(3, step=step)
    guard = OomGuard(device)
    ticket = guard.submit(ROW)
    guard.wait(ticket)
    batches = list(device.batches)
    device.room = 0  # whatever went to the device now would not fit
    backwards = [guard.finish(ticket, k) for k in reversed(range(8))]
    assert numbers(backwards) == list(reversed(range(8)))
    assert device.batches == batches
    done = [one for one in device.tickets if one.waited_for]
    assert sum(len(one.finished) for one in done) == 8


def test_waiting_lets_go_of_the_pictures() -> None:
    guard = OomGuard(SmallDevice(3))
    ticket = guard.submit(ROW)
    assert ticket.part is not None
    assert len(ticket.later) == 6
    guard.wait(ticket)
    assert (ticket.part, ticket.later) == (None, ())


@pytest.mark.parametrize("step", ["submit", "wait"])
def test_without_room_for_one_picture_it_says_so(step: str) -> None:
    guard = OomGuard(SmallDevice(0, step=step))
    with pytest.raises(RunError, match="does not hold a single picture of 96x64: stop other programs"):
        segment_batch(guard, ROW)


def test_a_picture_waits_for_the_batches_before_it() -> None:
    """There is no room for one more picture while an earlier batch is on the device."""
    device = SmallDevice(8)
    guard = OomGuard(device)
    first = guard.submit(ROW[:1])
    device.room = 0
    refused = threading.Event()
    tell(device, refused.set)
    second: list[int] = []
    worker = threading.Thread(target=lambda: second.extend(numbers(segment_batch(guard, ROW[1:2]))))
    worker.start()
    assert refused.wait(timeout=30)
    device.room = 8
    assert not second
    guard.wait(first)
    worker.join(timeout=30)
    assert second == [1]


def tell(device: SmallDevice, refused: Callable[[], None]) -> None:
    """Call ``refused`` when the device has no room."""
    fit = device._fit

    def fit_or_tell(step: str, count: int) -> None:
        try:
            fit(step, count)
        except torch.OutOfMemoryError:
            refused()
            raise

    device._fit = fit_or_tell  # type: ignore[method-assign]


def test_other_errors_are_not_its_business() -> None:
    class Breaking(SmallDevice):
        def wait(self, ticket: NumbersTicket) -> None:
            raise RuntimeError("the device is gone")

    with pytest.raises(RuntimeError, match="the device is gone"):
        segment_batch(OomGuard(Breaking(8)), ROW)


def test_a_model_that_does_not_fit_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Segmenter, "warm_up", full)
    with pytest.raises(RunError, match="the device's memory does not hold the model: CUDA out of memory"):
        OomGuard.load(ModelConfig(device="cpu"))
