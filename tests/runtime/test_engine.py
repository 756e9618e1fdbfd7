"""Submit, wait, finish: the device has its next batch whatever the host does."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from streamseg.runtime.batching import Batcher
from streamseg.runtime.engine import Engine
from streamseg.runtime.pacing import SubmitPacer
from streamseg.runtime.shutdown import ShutdownBudget
from streamseg.types import Frame, FramePolicy, Instances
from tests.support.broker import wait_for
from tests.support.frames import make_frame, make_info, no_instances


class Steps:
    """A model that notes its steps; no picture is finished before it is let go."""

    name, classes = "steps", ("person",)

    def __init__(self) -> None:
        self.submitted: list[int] = []
        self.waited: list[int] = []
        self.let_go = threading.Event()

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def submit(self, pictures: Sequence[NDArray[np.uint8]]) -> int:
        self.submitted.append(len(pictures))
        return len(self.submitted)

    def wait(self, ticket: int) -> None:
        self.waited.append(ticket)

    def finish(self, ticket: int, k: int) -> Instances:
        assert self.let_go.wait(30)
        return no_instances()


@pytest.mark.parametrize("policy", list(FramePolicy))
def test_the_device_is_given_the_next_batch_while_the_host_is_busy(policy: FramePolicy) -> None:
    model, delivered = Steps(), []
    batcher = Batcher(max_batch=2, max_wait=0.001, group=lambda _: 0, on_drop=lambda _: None, max_age=60.0)

    def deliver(frame: Frame, _: Instances) -> None:
        delivered.append(frame.index)

    engine = Engine(
        model,
        batcher,
        ShutdownBudget(),
        max_batch=2,
        deliver=deliver,
        give_up=lambda _: None,
        on_breakdown=lambda: None,
    )
    for stream in "ab":
        batcher.open(make_info(stream, policy=policy))
    engine.start()
    for index in range(2):
        for stream in "ab":
            batcher.put(make_frame(stream, index))
        wait_for(lambda index=index: sum(model.submitted) == 2 * index + 2)
    wait_for(lambda: len(model.waited) == len(model.submitted))
    assert delivered == []
    model.let_go.set()
    batcher.close()
    engine.join()
    assert sorted(delivered) == [0, 0, 1, 1]
    assert not engine.busy


def simulated_rate(device: float, host: float, *, paced: bool, batches: int = 400) -> float:
    """Batches a second of a device and a host that each take one batch after the other.

    As the engine does it: the pacer says when a batch is formed and hears when the device is done; two
    batches may be in the device, two with the host. Time is that of the simulation.
    """
    now = 0.0
    pacer = SubmitPacer(lambda: now)
    events: list[tuple[float, str]] = []
    in_device = with_host = formed = finished = 0
    while finished < batches:
        due = pacer.due() if paced else now
        if in_device < 2 and with_host <= 1 and due <= now and formed < batches:
            pacer.submitted(8, 0.0)
            formed += 1
            in_device += 1
            if in_device == 1:
                heapq.heappush(events, (now + device, "device"))
            continue
        if in_device < 2 and with_host <= 1 and now < due < (events[0][0] if events else np.inf):
            now = due
            continue
        now, what = heapq.heappop(events)
        if what == "device":
            pacer.done()
            in_device -= 1
            with_host += 1
            if in_device:
                heapq.heappush(events, (now + device, "device"))
            if with_host == 1:
                heapq.heappush(events, (now + host, "host"))
        else:
            with_host -= 1
            finished += 1
            if with_host:
                heapq.heappush(events, (now + host, "host"))
    return batches / now


@pytest.mark.parametrize(("device", "host"), [(0.02, 0.02), (0.02, 0.015), (0.02, 0.001)])
def test_a_live_run_is_as_fast_as_a_recorded_one(device: float, host: float) -> None:
    live, recorded = (simulated_rate(device, host, paced=paced) for paced in (True, False))
    assert recorded == pytest.approx(1 / device, rel=0.02)
    assert live >= 0.9 * recorded
