"""Host work side by side, and results in order all the same."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.runtime.finisher import Finisher
from streamseg.types import Frame, Instances
from tests.support.broker import wait_for
from tests.support.frames import make_frame, no_instances


class Delivered:
    """What a finisher delivered, and the error it told of."""

    def __init__(self, *, capacity: int = 100, threads: int = 3) -> None:
        self.frames: list[tuple[str, int]] = []
        self.errors: list[BaseException] = []
        self.at_once: dict[str, int] = {}
        self.finisher = Finisher(
            self.deliver, on_error=self.errors.append, capacity=capacity, threads=threads
        )
        self.finisher.start()

    def deliver(self, frame: Frame, _: Instances) -> None:
        self.at_once[frame.stream] = self.at_once.get(frame.stream, 0) + 1
        assert self.at_once[frame.stream] == 1, "results of a stream are delivered one at a time"
        self.frames.append((frame.stream, frame.index))
        self.at_once[frame.stream] -= 1

    def end(self) -> None:
        self.finisher.close()
        for thread in self.finisher.threads:
            thread.join(30)
            assert not thread.is_alive()


def after(event: threading.Event) -> Callable[[], Instances]:
    def finish() -> Instances:
        assert event.wait(30)
        return no_instances()

    return finish


def test_a_frame_that_takes_long_holds_up_its_own_stream_alone() -> None:
    delivered, go_on = Delivered(), threading.Event()
    delivered.finisher.put(make_frame("slow", 0), after(go_on))
    for index in range(1, 4):
        delivered.finisher.put(make_frame("slow", index), no_instances)
        delivered.finisher.put(make_frame("quick", index), no_instances)
    wait_for(lambda: len(delivered.frames) == 3)
    assert delivered.frames == [("quick", 1), ("quick", 2), ("quick", 3)]
    go_on.set()
    delivered.end()
    assert delivered.frames[3:] == [("slow", index) for index in range(4)]


def test_pictures_of_one_stream_are_finished_side_by_side() -> None:
    meeting = threading.Barrier(3)

    def meet() -> Instances:
        meeting.wait(30)  # breaks if the others do not come while this one waits
        return no_instances()

    delivered = Delivered(threads=3)
    for index in range(6):
        delivered.finisher.put(make_frame("a", index), meet)
    delivered.end()
    assert delivered.frames == [("a", index) for index in range(6)]


def test_no_more_frames_are_taken_than_there_is_room_for() -> None:
    delivered, go_on = Delivered(capacity=2), threading.Event()
    put: list[int] = []

    def put_all() -> None:
        for index in range(4):
            delivered.finisher.put(make_frame("a", index), after(go_on))
            put.append(index)

    thread = threading.Thread(target=put_all)
    thread.start()
    wait_for(lambda: len(put) == 2)
    thread.join(0.05)
    assert put == [0, 1]
    go_on.set()
    thread.join(30)
    delivered.end()
    assert delivered.frames == [("a", index) for index in range(4)]


def test_after_an_error_nothing_more_is_delivered_and_nobody_waits() -> None:
    def explode() -> Instances:
        raise RuntimeError("no memory")

    delivered = Delivered(capacity=1)
    delivered.finisher.put(make_frame("a", 0), no_instances)
    delivered.finisher.put(make_frame("a", 1), explode)
    for index in range(2, 6):
        delivered.finisher.put(make_frame("a", index), no_instances)
    delivered.end()
    assert delivered.frames == [("a", 0)]
    assert [str(error) for error in delivered.errors] == ["no memory"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 4), st.integers(1, 8), st.integers())
def test_every_frame_is_delivered_once_and_in_the_order_of_its_stream(
    streams: list[str], threads: int, capacity: int, seed: int
) -> None:
    chance = random.Random(seed)
    delivered = Delivered(capacity=capacity, threads=threads)
    expected: dict[str, list[int]] = {}
    for index, stream in enumerate(streams):
        spins = chance.randrange(200)
        expected.setdefault(stream, []).append(index)
        delivered.finisher.put(make_frame(stream, index), lambda spins=spins: spin(spins))
    delivered.end()
    got = {stream: [i for s, i in delivered.frames if s == stream] for stream in expected}
    assert got == expected
    assert not delivered.errors


def spin(times: int) -> Instances:
    for _ in range(times):
        pass
    return no_instances()
