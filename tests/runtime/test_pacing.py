"""When the next batch may be formed; time is the test's own, but for the waits."""

import threading

from streamseg.runtime.pacing import SubmitPacer
from tests.support.broker import wait_for


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


def learn(pacer: SubmitPacer, clock: Clock, *, seconds: float, submitting: float = 0.0) -> None:
    for _ in range(30):
        clock.now += submitting
        pacer.submitted(4, submitting)
        clock.now += seconds
        pacer.done()


def returns(pacer: SubmitPacer) -> threading.Thread:
    thread = threading.Thread(target=pacer.wait, daemon=True)
    thread.start()
    return thread


def held_up(thread: threading.Thread) -> bool:
    thread.join(0.05)
    return thread.is_alive()


def test_an_idle_device_is_given_work_at_once() -> None:
    SubmitPacer().wait()


def test_a_batch_is_formed_shortly_before_the_device_is_free() -> None:
    clock = Clock()
    pacer = SubmitPacer(clock)
    learn(pacer, clock, seconds=20.0, submitting=2.0)
    pacer.submitted(4, 2.0)
    clock.now += 17.5  # 2.5 s before it is free, and preparing takes 2
    waiting = returns(pacer)
    assert held_up(waiting)
    pacer.done()
    wait_for(lambda: not waiting.is_alive(), what="the end of the wait")
    pacer.submitted(4, 2.0)
    clock.now += 18.1
    pacer.wait()


def test_a_device_that_works_while_it_is_given_work_never_waits() -> None:
    clock = Clock()
    pacer = SubmitPacer(clock)
    learn(pacer, clock, seconds=0.5, submitting=20.0)
    pacer.submitted(4, 20.0)
    pacer.wait()


def test_no_more_than_two_batches_are_on_their_way() -> None:
    clock = Clock()
    pacer = SubmitPacer(clock)
    pacer.submitted(4, 0.0)
    pacer.wait()  # nothing is known of this size yet
    pacer.submitted(4, 0.0)
    waiting = returns(pacer)
    assert held_up(waiting)
    pacer.done()
    wait_for(lambda: not waiting.is_alive(), what="the end of the wait")


def test_nobody_is_held_up_after_a_breakdown() -> None:
    pacer = SubmitPacer()
    for _ in range(2):
        pacer.submitted(1, 0.0)
    waiting = returns(pacer)
    pacer.open()
    wait_for(lambda: not waiting.is_alive(), what="the end of the wait")
