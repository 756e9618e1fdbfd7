"""The queue in front of an output: order, bounds, errors, the end."""

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from streamseg.outputs.queue import PICTURE_BACKLOG

from streamseg.errors import OutputError, StreamsegError
from streamseg.outputs import OutputQueue
from streamseg.types import Frame, FrameResult, Instances, StreamInfo
from tests.support.broker import wait_for
from tests.support.clips import frame, info, instances, result_of


class Recorder:
    """Notes what it is called with; waits in ``write`` while its gate is shut."""

    def __init__(
        self, *, needs_pixels: bool = False, optional: bool = False, fails_at: int | None = None
    ) -> None:
        self.needs_pixels = needs_pixels
        self.pixels_optional = optional
        self.calls: list[tuple[object, ...]] = []
        self.pictures: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self._fails_at = fails_at

    def open(self, info: StreamInfo) -> None:
        self.calls.append(("open", info.stream, info.epoch))

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        self.entered.set()
        assert self.gate.wait(20)
        if result.frame == self._fails_at:
            raise OutputError("cannot write out.mp4: No space left on device")
        assert (frame is None) == (instances is None)
        if frame is not None:
            self.pictures.append(result.frame)
        self.calls.append(("write", result.stream, result.frame))

    def close(self, stream: str, *, complete: bool) -> None:
        self.calls.append(("close", stream, complete))

    def shutdown(self) -> None:
        self.calls.append(("shutdown",))

    def written(self, stream: str = "cam") -> list[object]:
        return [call[2] for call in self.calls if call[:2] == ("write", stream)]


@contextmanager
def queue_of(output: Recorder) -> Iterator[tuple[OutputQueue, list[StreamsegError]]]:
    errors: list[StreamsegError] = []
    queue = OutputQueue(output, on_error=errors.append)
    try:
        yield queue, errors
    finally:
        output.gate.set()
        queue.abort()


def put(queue: OutputQueue, index: int, stream: str = "cam", epoch: int = 0) -> Frame:
    put_frame = frame(index, stream=stream, epoch=epoch)
    queue.put(result_of(put_frame), put_frame, instances())
    return put_frame


@pytest.mark.parametrize("needs_pixels", [False, True])
def test_everything_in_order_then_shutdown(needs_pixels: bool) -> None:
    output = Recorder(needs_pixels=needs_pixels)
    with queue_of(output) as (queue, errors):
        queue.open(info())
        for i in range(20):
            put(queue, i)
        queue.close("cam", complete=True)
        queue.finish(10)
        expected = [
            ("open", "cam", 0),
            *(("write", "cam", i) for i in range(20)),
            ("close", "cam", True),
            ("shutdown",),
        ]
        assert output.calls == expected
        assert output.pictures == (list(range(20)) if needs_pixels else [])
        assert (errors, queue.error, queue.dropped, queue.lost) == ([], None, {}, 0)


@pytest.mark.parametrize("needs_pixels", [False, True])
def test_a_recorded_stream_holds_its_frames_until_written_and_loses_none(needs_pixels: bool) -> None:
    output = Recorder(needs_pixels=needs_pixels)
    output.gate.clear()
    with queue_of(output) as (queue, _):
        queue.open(info())
        held = [weakref.ref(put(queue, i)) for i in range(1500)]
        gc.collect()
        assert all(ref() is not None for ref in held)
        output.gate.set()
        queue.finish(20)
        gc.collect()
        assert output.written() == list(range(1500))
        assert [ref for ref in held if ref() is not None] == []


def test_a_live_stream_keeps_its_newest_pictures(caplog: pytest.LogCaptureFixture) -> None:
    output = Recorder(needs_pixels=True)
    output.gate.clear()
    with queue_of(output) as (queue, _), caplog.at_level(logging.WARNING):
        queue.open(info(live=True))
        put(queue, 0)
        assert output.entered.wait(10)
        held = [weakref.ref(put(queue, i)) for i in range(1, 101)]
        gc.collect()
        assert [i for i, ref in enumerate(held, 1) if ref() is not None] == list(range(93, 101))
        assert len(queue) == PICTURE_BACKLOG
        output.gate.set()
        queue.finish(10)
        assert output.written() == [0, *range(93, 101)]
        assert queue.dropped == {"cam": 92}
        assert len([r for r in caplog.records if "too slow for stream cam" in r.message]) == 1


def test_live_results_without_pixels_have_a_long_backlog_and_keep_no_frame() -> None:
    output = Recorder()
    output.gate.clear()
    with queue_of(output) as (queue, _):
        queue.open(info(live=True))
        held = [weakref.ref(put(queue, i)) for i in range(1200)]
        gc.collect()
        assert [ref for ref in held if ref() is not None] == []
        output.gate.set()
        queue.finish(10)
        assert queue.dropped["cam"] in {199, 200}, "1000 wait and one may be in the output's hands"
        assert output.written()[-1000:] == list(range(200, 1200))


def test_results_outlive_their_pictures_where_the_output_can_do_without() -> None:
    output = Recorder(needs_pixels=True, optional=True)
    output.gate.clear()
    with queue_of(output) as (queue, _):
        queue.open(info(live=True))
        put(queue, 0)
        assert output.entered.wait(10)
        for i in range(1, 101):
            put(queue, i)
        output.gate.set()
        queue.finish(10)
        assert output.written() == list(range(101))
        assert output.pictures == [0, *range(93, 101)]


def test_dropping_keeps_the_newest_opening() -> None:
    output = Recorder(needs_pixels=True)
    output.gate.clear()
    with queue_of(output) as (queue, _):
        for epoch in range(5):
            queue.open(info(live=True, epoch=epoch))
            for i in range(10):
                put(queue, epoch * 10 + i, epoch=epoch)
        output.gate.set()
        queue.finish(10)
        writes = [i for i, call in enumerate(output.calls) if call[0] == "write"]
        first_of_last_epoch = next(i for i in writes if output.calls[i][2] == 42)
        assert output.calls[first_of_last_epoch - 1] == ("open", "cam", 4)


def test_streams_take_turns() -> None:
    output = Recorder()
    output.gate.clear()
    with queue_of(output) as (queue, _):
        for stream in ("a", "b"):
            queue.open(info(stream))
            for i in range(50):
                put(queue, i, stream)
        output.gate.set()
        queue.finish(10)
        first_b = next(i for i, call in enumerate(output.calls) if call == ("write", "b", 0))
        assert first_b < 10
        assert output.written("a") == output.written("b") == list(range(50))


def test_the_first_error_is_kept_and_frames_are_let_go() -> None:
    output = Recorder(needs_pixels=True, fails_at=2)
    with queue_of(output) as (queue, errors):
        queue.open(info())
        held = [weakref.ref(put(queue, i)) for i in range(10)]
        wait_for(lambda: errors)
        held += [weakref.ref(put(queue, i)) for i in range(10, 20)]
        wait_for(lambda: not [ref for ref in held if ref() is not None], what="frames let go")
        queue.close("cam", complete=True)
        queue.finish(10)
        assert output.written() == [0, 1]
        assert errors == [queue.error]
        assert str(queue.error).startswith("cannot write out.mp4: No space left on device")
        assert queue.lost == 18
        assert output.calls[-2:] == [("close", "cam", False), ("shutdown",)], "it still ends properly"


def test_an_unexpected_exception_is_an_output_error() -> None:
    class Broken(Recorder):
        def close(self, stream: str, *, complete: bool) -> None:
            super().close(stream, complete=complete)
            raise RuntimeError("boom")

    with queue_of(Broken()) as (queue, errors):
        queue.open(info())
        queue.close("cam", complete=True)
        wait_for(lambda: errors)
        assert isinstance(errors[0], OutputError)
        assert str(errors[0]) == "Broken: RuntimeError: boom"


def test_a_stream_that_never_opened_can_be_closed() -> None:
    output = Recorder()
    with queue_of(output) as (queue, errors):
        queue.close("cam", complete=False)
        queue.finish(10)
        assert output.calls == [("shutdown",)]
        assert errors == []


def test_finish_gives_up_an_output_that_is_stuck() -> None:
    output = Recorder()
    output.gate.clear()
    with queue_of(output) as (queue, errors):
        queue.open(info())
        for i in range(5):
            put(queue, i)
        assert output.entered.wait(10)
        queue.finish(0.2)
        assert str(errors[0]) == "Recorder was stuck for 0.2 s; 5 results are lost"


def test_abort_discards_and_closes_as_incomplete() -> None:
    output = Recorder()
    output.gate.clear()
    with queue_of(output) as (queue, _):
        queue.open(info())
        for i in range(5):
            put(queue, i)
        assert output.entered.wait(10)
        queue.abort(timeout=0)
        output.gate.set()
        queue.abort()
        assert output.calls == [
            ("open", "cam", 0),
            ("write", "cam", 0),
            ("close", "cam", False),
            ("shutdown",),
        ]
