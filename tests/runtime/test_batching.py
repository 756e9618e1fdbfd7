"""When batches leave and what they hold; time is the test's own clock."""

import sys
import threading
from collections.abc import Mapping

import pytest

from streamseg.runtime.batching import Batcher
from streamseg.types import FramePolicy, FramesDropped
from tests.support.frames import make_frame, make_info

RECORDED, LIVE = FramePolicy.EVERY_FRAME, FramePolicy.NEWEST_FRAME


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Bench:
    """A batcher, its clock and what it dropped."""

    def __init__(self, streams: Mapping[str, FramePolicy], widths: Mapping[str, int] | None = None) -> None:
        self.clock = Clock()
        self.dropped: list[FramesDropped] = []
        self.batcher = Batcher(
            max_batch=4,
            max_wait=0.02,
            group=lambda info: info.width,
            on_drop=self.dropped.append,
            clock=self.clock,
        )
        self.widths = widths or {}
        for name, policy in streams.items():
            self.open(name, policy)
        self.clock.now += 2.0  # the first second of a stream is another matter

    def open(self, name: str, policy: FramePolicy) -> None:
        self.batcher.open(make_info(name, policy=policy, width=self.widths.get(name, 8)))

    def put(self, stream: str, index: int) -> None:
        width = self.widths.get(stream, 8)
        self.batcher.put(make_frame(stream, index, width=width, decoded_at=self.clock.now))

    def take(self) -> list[tuple[str, int]]:
        batch = self.batcher.next()
        return [] if batch is None else [(frame.stream, frame.index) for frame in batch.frames]


def test_a_full_batch_leaves_at_once() -> None:
    bench = Bench({"a": RECORDED})
    for index in range(5):
        bench.put("a", index)
    assert bench.take() == [("a", 0), ("a", 1), ("a", 2), ("a", 3)]


def test_a_batch_leaves_when_its_oldest_frame_has_waited() -> None:
    bench = Bench({"a": RECORDED, "b": LIVE})
    bench.put("a", 0)
    bench.clock.now += 0.021
    assert bench.take() == [("a", 0)]


def test_an_incomplete_batch_waits_for_company() -> None:
    bench = Bench({"a": LIVE, "b": LIVE})
    bench.put("a", 0)
    taken: list[list[tuple[str, int]]] = []
    thread = threading.Thread(target=lambda: taken.append(bench.take()))
    thread.start()
    bench.put("b", 0)
    thread.join(timeout=10)
    assert taken == [[("a", 0), ("b", 0)]]


def test_live_streams_that_all_gave_their_frame_do_not_wait() -> None:
    bench = Bench({"a": LIVE, "b": LIVE})
    bench.put("b", 7)
    bench.put("a", 3)
    assert sorted(bench.take()) == [("a", 3), ("b", 7)]


def test_the_newest_live_frame_wins_and_the_older_one_is_counted() -> None:
    bench = Bench({"a": LIVE})
    for index in range(3):
        bench.clock.now += 0.11
        bench.put("a", index)
    assert bench.take() == [("a", 2)]
    assert bench.dropped == [FramesDropped("a", "superseded", 1)] * 2


def beat(bench: Bench, stream: str, *, count: int, interval: float) -> None:
    """Let frames of a live stream come in its rhythm and be served at once."""
    for index in range(count):
        bench.clock.now += interval
        bench.put(stream, index)
        bench.clock.now += 0.0201
        bench.take()
        bench.clock.now -= 0.0201


def test_frames_of_a_hiccup_are_not_lost_while_the_model_keeps_up() -> None:
    bench = Bench({"a": LIVE})
    for index in range(6):
        bench.put("a", index)
        bench.clock.now += 0.01
    assert bench.take() == [("a", index) for index in (0, 1, 2, 3)]
    bench.clock.now += 0.02
    assert bench.take() == [("a", 4), ("a", 5)]
    assert bench.dropped == []


def test_of_many_frames_at_once_only_some_wait() -> None:
    bench = Bench({"a": LIVE})
    for index in range(14):
        bench.put("a", index)
    bench.clock.now += 0.021
    assert bench.take() == [("a", 13)]
    assert [drop.count for drop in bench.dropped] == [12, 1]


def test_while_the_model_is_too_slow_the_newest_frame_wins_also_of_those_that_come_at_once() -> None:
    bench = Bench({"a": LIVE})
    bench.put("a", 0)
    bench.clock.now += 0.11
    for index in (1, 2, 3):
        bench.put("a", index)
    bench.clock.now += 0.021
    assert bench.take() == [("a", 3)]
    bench.clock.now += 1.1
    for index in (4, 5):
        bench.put("a", index)
    bench.clock.now += 0.021
    assert bench.take() == [("a", 4), ("a", 5)], "it has recovered"


def test_of_what_a_camera_hands_over_when_it_is_opened_the_newest_frame_wins() -> None:
    bench = Bench({"a": LIVE})
    bench.open("a", LIVE)
    for index in range(9):
        bench.put("a", index)
    bench.clock.now += 0.021
    assert bench.take() == [("a", 8)]


def test_a_live_frame_that_has_waited_too_long_is_dropped_as_late() -> None:
    bench = Bench({"a": LIVE, "b": LIVE})
    bench.put("a", 0)
    bench.clock.now += 0.4
    bench.put("b", 0)
    bench.clock.now += 0.11
    assert bench.take() == [("b", 0)]
    assert bench.dropped == [FramesDropped("a", "late", 1)]


def test_if_all_frames_are_late_the_next_one_is_waited_for() -> None:
    bench = Bench({"a": LIVE})
    bench.put("a", 0)
    bench.clock.now += 0.6
    taken: list[list[tuple[str, int]]] = []
    thread = threading.Thread(target=lambda: taken.append(bench.take()))
    thread.start()
    while not bench.dropped:
        pass
    bench.put("a", 1)
    thread.join(timeout=10)
    assert taken == [[("a", 1)]]


def test_a_recorded_frame_is_never_late() -> None:
    bench = Bench({"a": RECORDED})
    bench.put("a", 0)
    bench.clock.now += 60
    assert bench.take() == [("a", 0)]


def test_a_slow_or_silent_camera_is_not_waited_for() -> None:
    bench = Bench({"fast": LIVE, "slow": LIVE})
    beat(bench, "fast", count=4, interval=0.04)
    beat(bench, "slow", count=4, interval=0.5)
    bench.put("fast", 9)
    assert bench.take() == [("fast", 9)], "the next frame of the slow one is half a second away"
    bench.clock.now += 3.0
    bench.put("fast", 10)
    assert bench.take() == [("fast", 10)], "the slow one has gone silent"


def test_a_camera_whose_next_frame_is_near_is_waited_for() -> None:
    bench = Bench({"a": LIVE, "b": LIVE})
    beat(bench, "a", count=4, interval=0.04)
    bench.clock.now -= 0.03
    beat(bench, "b", count=4, interval=0.04)
    bench.clock.now += 0.035
    bench.put("a", 9)
    taken: list[list[tuple[str, int]]] = []
    thread = threading.Thread(target=lambda: taken.append(bench.take()))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive(), "the next frame of b is only 5 ms away"
    bench.put("b", 9)
    thread.join(timeout=10)
    assert taken == [[("a", 9), ("b", 9)]]


def test_a_recorded_stream_loses_nothing_and_keeps_its_order() -> None:
    bench = Bench({"a": RECORDED})
    for index in range(10):
        bench.put("a", index)
    bench.batcher.close()
    taken = [item for _ in range(3) for item in bench.take()]
    assert taken == [("a", index) for index in range(10)]
    assert bench.dropped == []


def test_every_stream_gets_its_turn() -> None:
    bench = Bench({"fast": RECORDED, "slow": LIVE})
    for index in range(8):
        bench.put("fast", index)
    bench.put("slow", 0)
    assert ("slow", 0) in bench.take()


def test_streams_take_turns_when_batches_are_too_small_for_all() -> None:
    names = [f"s{i}" for i in range(6)]
    bench = Bench(dict.fromkeys(names, RECORDED))
    served = dict.fromkeys(names, 0)
    for index in range(12):
        for name in names:
            bench.put(name, index)
    for _ in range(9):
        bench.clock.now += 0.001
        for name, _ in bench.take():
            served[name] += 1
    assert set(served.values()) == {6}


def test_a_camera_of_another_size_gets_as_much_as_the_others() -> None:
    sizes = {"lonely": 8, **{f"s{i}": 16 for i in range(6)}}
    bench = Bench(dict.fromkeys(sizes, LIVE), sizes)
    served = dict.fromkeys(sizes, 0)
    for index in range(200):
        bench.clock.now += 0.04
        for name in sizes:
            bench.put(name, index)
        for name, _ in bench.take():  # four of the seven at most
            served[name] += 1
    fair = sum(served.values()) / len(served)
    assert all(abs(count - fair) <= 0.1 * fair + 1 for count in served.values()), served


def test_frames_of_different_input_sizes_do_not_share_a_batch() -> None:
    bench = Bench({"a": RECORDED, "b": RECORDED}, {"a": 8, "b": 16})
    bench.put("a", 0)
    bench.put("b", 0)
    bench.put("a", 1)
    bench.batcher.close()
    assert bench.take() == [("a", 0), ("a", 1)]
    assert bench.take() == [("b", 0)]


def test_what_waits_is_served_at_once_after_the_end_of_its_stream() -> None:
    bench = Bench({"a": RECORDED})
    bench.put("a", 0)
    bench.batcher.end("a")
    assert bench.take() == [("a", 0)]


def test_next_returns_none_once_closed_and_empty() -> None:
    bench = Bench({"a": LIVE})
    bench.batcher.close()
    assert bench.batcher.next() is None


@pytest.mark.parametrize("policy", [RECORDED, LIVE])
def test_put_wakes_a_waiting_taker(policy: FramePolicy) -> None:
    bench = Bench({"a": policy})
    taken: list[list[tuple[str, int]]] = []
    thread = threading.Thread(target=lambda: taken.append(bench.take()))
    thread.start()
    bench.put("a", 0)
    bench.batcher.end("a")
    thread.join(timeout=10)
    assert taken == [[("a", 0)]]


def test_a_recording_under_the_id_of_a_former_camera_loses_nothing() -> None:
    bench = Bench({"a": LIVE})
    bench.put("a", 0)
    bench.batcher.end("a")
    assert bench.take() == [("a", 0)]
    bench.open("a", RECORDED)
    for index in range(20):
        bench.put("a", index)
    bench.batcher.close()
    assert [item for _ in range(5) for item in bench.take()] == [("a", index) for index in range(20)]
    assert bench.dropped == []


def test_frames_that_came_before_a_reconnect_keep_their_own_input_size() -> None:
    bench = Bench({"a": LIVE, "b": LIVE}, {"a": 8, "b": 16})
    bench.put("a", 0)
    bench.widths = {"a": 16, "b": 16}
    bench.open("a", LIVE)
    bench.put("b", 0)
    bench.batcher.close()
    assert bench.take() == [("a", 0)]
    assert bench.take() == [("b", 0)]


@pytest.mark.parametrize("company", [None, RECORDED], ids=["full batches", "beside a recording"])
def test_what_is_noted_of_streams_does_not_grow_with_the_frames(company: FramePolicy | None) -> None:
    names = ["a", "b", "c", "d"] if company is None else ["a", "b"]
    bench = Bench(dict.fromkeys(names, LIVE) | ({} if company is None else {"file": company}))
    for index in range(500):
        bench.clock.now += 0.04
        for name in names:
            bench.put(name, index)
        if company is not None:
            bench.clock.now += 0.021
        assert len(bench.take()) == len(names)
    order = bench.batcher._order
    noted = len(order._next) + len(order._arrivals) + sum(map(len, order._ready.values()))
    assert noted <= 6 * len(names)


def lines_run(bench: Bench, names: list[str], *, rounds: int) -> float:
    """Lines of Python that a frame costs, from putting it to taking it."""
    lines = 0

    def trace(_frame: object, event: str, _argument: object) -> object:
        nonlocal lines
        lines += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        for index in range(rounds):
            bench.clock.now += 0.04
            for name in names:
                bench.put(name, index)
            for _ in range(len(names) // 4):
                bench.take()
    finally:
        sys.settrace(before)
    return lines / (rounds * len(names))


def test_the_work_for_a_frame_does_not_grow_with_the_number_of_streams() -> None:
    costs = []
    for count in (8, 200):
        names = [f"s{k}" for k in range(count)]
        bench = Bench(dict.fromkeys(names, LIVE))
        lines_run(bench, names, rounds=3)
        costs.append(lines_run(bench, names, rounds=10))
    few, many = costs
    assert many < 1.3 * few
