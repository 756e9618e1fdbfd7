"""An output behind its backlogs: order, bounds, turns, errors, the end."""

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from streamseg.errors import OutputError, OutputGoneError, StreamsegError
from streamseg.outputs import OutputRunner
from streamseg.outputs.backlog import PICTURES_KEPT, StreamBacklog
from streamseg.types import Frame, FrameResult, Instances, Output, Pixels, StreamEnd, StreamInfo, StreamWriter
from tests.support.broker import wait_for
from tests.support.clips import frame, info, instances, result_of

ENDED, FAILED = StreamEnd.ENDED, StreamEnd.FAILED


class Recorder(Output):
    """Notes what it and its writers are called with; they wait in ``write`` while its gate is shut."""

    def __init__(self, pixels: Pixels = Pixels.NEVER, *, at_once: int = 1) -> None:
        self.pixels, self.writers_at_once = pixels, at_once
        self.calls: list[tuple[object, ...]] = []
        self.pictures: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.errors: dict[tuple[str, int], Exception] = {}
        """What is raised instead of writing a stream's frame."""

    def open(self, info: StreamInfo) -> StreamWriter:
        self.calls.append(("open", info.stream, info.epoch))
        return Noting(self, info.stream)

    def report(self, stream: str, **fields: str | float) -> None:
        self.calls.append(("report", stream, fields))

    def hurry(self, patience: float | None = None) -> None:
        self.calls.append(("hurry", patience))

    def shutdown(self) -> None:
        self.calls.append(("shutdown",))

    def done(self) -> list[tuple[object, ...]]:
        return [call for call in self.calls if call[0] != "hurry"]

    def written(self, stream: str = "cam") -> list[object]:
        return [call[2] for call in self.calls if call[:2] == ("write", stream)]


class Noting(StreamWriter):
    def __init__(self, output: Recorder, stream: str) -> None:
        self.output, self.stream = output, stream

    def begin_epoch(self, info: StreamInfo) -> None:
        self.output.calls.append(("epoch", info.stream, info.epoch))

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        self.output.entered.set()
        assert self.output.gate.wait(20)
        if (error := self.output.errors.get((result.stream, result.frame))) is not None:
            raise error
        assert (frame is None) == (instances is None)
        if frame is not None:
            self.output.pictures.append(result.frame)
        self.output.calls.append(("write", result.stream, result.frame))

    def close(self, end: StreamEnd) -> None:
        self.output.calls.append(("close", self.stream, end))


@contextmanager
def running(output: Output) -> Iterator[tuple[OutputRunner, list[StreamsegError]]]:
    errors: list[StreamsegError] = []
    runner = OutputRunner(output, on_error=errors.append)
    runner.start()
    try:
        yield runner, errors
    finally:
        if isinstance(output, Recorder):
            output.gate.set()
        runner.abort()


def put(backlog: StreamBacklog, index: int, epoch: int = 0) -> Frame:
    put_frame = frame(index, stream=backlog.stream, epoch=epoch)
    backlog.put(result_of(put_frame), put_frame, instances())
    return put_frame


def kept(held: list[weakref.ref[Frame]]) -> list[int]:
    gc.collect()
    return [i for i, ref in enumerate(held) if ref() is not None]


def test_nothing_runs_before_the_start() -> None:
    before = threading.active_count()
    runner = OutputRunner(Recorder(), on_error=lambda _: None)
    runner.open(info())
    assert threading.active_count() == before
    runner.finish()
    runner.abort()


@pytest.mark.parametrize("pixels", [Pixels.NEVER, Pixels.ALWAYS])
def test_everything_in_order_then_shutdown(pixels: Pixels) -> None:
    output = Recorder(pixels)
    with running(output) as (runner, errors):
        cam = runner.open(info())
        for i in range(20):
            put(cam, i)
        cam.close(ENDED)
        runner.finish(10)
        assert output.done() == [
            ("open", "cam", 0),
            *(("write", "cam", i) for i in range(20)),
            ("close", "cam", ENDED),
            ("shutdown",),
        ]
        assert output.pictures == (list(range(20)) if pixels is Pixels.ALWAYS else [])
        assert (errors, runner.error, cam.dropped, cam.lost, runner.lost) == ([], None, 0, 0, 0)


@pytest.mark.parametrize("pixels", list(Pixels))
def test_a_recorded_stream_holds_its_frames_until_written_and_loses_none(pixels: Pixels) -> None:
    output = Recorder(pixels)
    output.gate.clear()
    with running(output) as (runner, _):
        cam = runner.open(info())
        held = [weakref.ref(put(cam, i)) for i in range(1500)]
        assert len(kept(held)) == 1500
        output.gate.set()
        runner.finish(20)
        assert output.written() == list(range(1500))
        assert output.pictures == ([] if pixels is Pixels.NEVER else list(range(1500)))
        assert kept(held) == []


def test_a_live_stream_keeps_its_newest_pictures(caplog: pytest.LogCaptureFixture) -> None:
    output = Recorder(Pixels.ALWAYS)
    output.gate.clear()
    with running(output) as (runner, _), caplog.at_level(logging.WARNING):
        cam = runner.open(info(live=True))
        put(cam, 0)
        assert output.entered.wait(10)
        held = [weakref.ref(put(cam, i)) for i in range(1, 101)]
        assert kept(held) == list(range(92, 100))
        assert len(runner) == len(cam) == PICTURES_KEPT
        output.gate.set()
        runner.finish(10)
        assert output.written() == output.pictures == [0, *range(93, 101)]
        assert cam.dropped == 92
        assert len([r for r in caplog.records if "too slow for stream cam" in r.message]) == 1


def test_live_results_without_pixels_have_a_long_backlog_and_keep_no_frame() -> None:
    output = Recorder()
    output.gate.clear()
    with running(output) as (runner, _):
        cam = runner.open(info(live=True))
        held = [weakref.ref(put(cam, i)) for i in range(1200)]
        assert kept(held) == []
        output.gate.set()
        runner.finish(10)
        assert cam.dropped in {199, 200}, "1000 wait and one may be in the writer's hands"
        assert output.written()[-1000:] == list(range(200, 1200))


def test_results_outlive_their_pictures_where_the_output_can_do_without() -> None:
    output = Recorder(Pixels.RECENT)
    output.gate.clear()
    with running(output) as (runner, _):
        cam = runner.open(info(live=True))
        put(cam, 0)
        assert output.entered.wait(10)
        for i in range(1, 101):
            put(cam, i)
        output.gate.set()
        runner.finish(10)
        assert output.written() == list(range(101))
        assert output.pictures == [0, *range(93, 101)]


def test_dropping_keeps_the_newest_epoch() -> None:
    output = Recorder(Pixels.ALWAYS)
    output.gate.clear()
    with running(output) as (runner, _):
        cam = runner.open(info(live=True))
        for epoch in range(5):
            if epoch:
                cam.begin_epoch(info(live=True, epoch=epoch))
            for i in range(10):
                put(cam, epoch * 10 + i, epoch=epoch)
        output.gate.set()
        runner.finish(10)
        before_the_last = output.calls[output.calls.index(("write", "cam", 42)) - 1]
        assert before_the_last[1:] == ("cam", 4)


def test_streams_take_turns() -> None:
    output = Recorder()
    output.gate.clear()
    with running(output) as (runner, _):
        a, b = runner.open(info("a")), runner.open(info("b"))
        for backlog in (a, b):
            for i in range(50):
                put(backlog, i)
        output.gate.set()
        runner.finish(10)
        assert output.calls.index(("write", "b", 0)) < 10
        assert output.written("a") == output.written("b") == list(range(50))


class Meeting(Recorder):
    """All of its writers have to be in ``write`` at the same time; ``open`` takes long enough to be seen."""

    def __init__(self, *, writers: int, at_once: int) -> None:
        super().__init__(at_once=at_once)
        self.together = threading.Barrier(writers)
        self.opening = threading.Semaphore(1)

    def open(self, info: StreamInfo) -> StreamWriter:
        assert self.opening.acquire(blocking=False), "called by two threads at once"
        threading.Event().wait(0.01)
        self.opening.release()
        return Attending(self, info.stream)


class Attending(Noting):
    output: Meeting

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        self.output.together.wait(10)
        super().write(result, frame, instances)


def test_writers_of_different_streams_work_side_by_side() -> None:
    output = Meeting(writers=3, at_once=3)
    before = threading.active_count()
    with running(output) as (runner, errors):
        backlogs = [runner.open(info(stream)) for stream in "abc"]
        for i in range(20):
            for backlog in backlogs:
                put(backlog, i)
        for backlog in backlogs:
            backlog.close(ENDED)
        runner.finish(20)
        assert errors == []
        assert all(output.written(stream) == list(range(20)) for stream in "abc")
        assert output.calls[-1] == ("shutdown",)
        assert len([call for call in output.calls if call[0] == "close"]) == 3
    assert threading.active_count() == before


@pytest.mark.parametrize(("at_once", "streams", "threads"), [(8, 2, 2), (2, 6, 2), (1, 6, 1)])
def test_no_more_threads_than_streams_with_work(at_once: int, streams: int, threads: int) -> None:
    output = Recorder(at_once=at_once)
    output.gate.clear()
    before = threading.active_count()
    with running(output) as (runner, _):
        backlogs = [runner.open(info(str(n))) for n in range(streams)]
        for i in range(10):
            for backlog in backlogs:
                put(backlog, i)
        assert threading.active_count() - before == threads
        output.gate.set()
        runner.finish(10)
        assert all(output.written(str(n)) == list(range(10)) for n in range(streams))


def test_the_first_error_is_kept_and_frames_are_let_go() -> None:
    output = Recorder(Pixels.ALWAYS)
    output.errors["cam", 2] = OutputError("cannot write out.mp4: No space left on device")
    with running(output) as (runner, errors):
        cam = runner.open(info())
        held = [weakref.ref(put(cam, i)) for i in range(10)]
        wait_for(lambda: errors)
        held += [weakref.ref(put(cam, i)) for i in range(10, 20)]
        wait_for(lambda: not kept(held), what="frames let go")
        assert not cam.takes
        assert not runner.gone
        cam.close(ENDED)
        runner.finish(10)
        assert output.written() == [0, 1]
        assert errors == [runner.error]
        assert str(runner.error).startswith("cannot write out.mp4: No space left on device")
        assert cam.lost == runner.lost == 18
        assert output.done()[-2:] == [("close", "cam", FAILED), ("shutdown",)], "it still ends properly"


def test_a_stream_that_failed_does_not_end_the_others() -> None:
    output = Recorder()
    output.errors["a", 1] = OutputError("cannot write a")
    with running(output) as (runner, errors):
        a, b = runner.open(info("a")), runner.open(info("b"))
        for i in range(5):
            put(a, i)
            put(b, i)
        wait_for(lambda: ("close", "a", FAILED) in output.calls, what="a is closed while b goes on")
        put(b, 5)
        for backlog in (a, b):
            backlog.close(ENDED)
        runner.finish(10)
        assert output.written("b") == list(range(6))
        assert [call for call in output.calls if call[0] == "close"] == [
            ("close", "a", FAILED),
            ("close", "b", ENDED),
        ]
        assert [str(error) for error in errors] == ["cannot write a"]
        assert (a.takes, b.takes, a.lost, b.lost) == (False, True, 4, 0)


def test_an_output_that_is_gone_ends_for_all_streams() -> None:
    output = Recorder()
    output.errors["a", 0] = OutputGoneError("no room")
    with running(output) as (runner, errors):
        b = runner.open(info("b"))
        put(b, 0)
        wait_for(lambda: output.written("b"))
        a = runner.open(info("a"))
        put(a, 0)
        wait_for(lambda: runner.gone)
        wait_for(lambda: len([call for call in output.calls if call[0] == "close"]) == 2)
        late = runner.open(info("late"))
        for backlog in (a, b, late):
            put(backlog, 1)
            backlog.close(ENDED)
        runner.finish(10)
        assert [(x.takes, x.lost) for x in (a, b, late)] == [(False, 2), (False, 1), (False, 1)]
        assert {call for call in output.calls if call[0] == "close"} == {
            ("close", "a", FAILED),
            ("close", "b", FAILED),
        }
        assert [str(error) for error in errors] == ["no room"]


@pytest.mark.parametrize("live", [False, True])
def test_a_stream_that_is_added_again_after_it_failed_is_written_again(live: bool) -> None:
    output = Recorder()
    output.errors["cam", 1] = OutputError("cannot write")
    with running(output) as (runner, errors):
        first = runner.open(info(live=live))
        put(first, 0)
        put(first, 1)
        wait_for(lambda: errors)
        first.close(ENDED)
        second = runner.open(info(live=live))
        for i in range(10, 15):
            put(second, i)
        second.close(ENDED)
        runner.finish(10)
        assert output.written() == [0, *range(10, 15)]
        assert (second.lost, second.takes, len(errors)) == (0, True, 1)


def test_a_recording_under_the_id_of_a_former_camera_loses_nothing() -> None:
    output = Recorder(Pixels.ALWAYS, at_once=4)
    output.gate.clear()
    with running(output) as (runner, _):
        camera = runner.open(info(live=True))
        put(camera, 0)
        assert output.entered.wait(10)
        camera.close(ENDED)
        recording = runner.open(info())
        for i in range(100):
            put(recording, i)
        recording.close(ENDED)
        assert ("open", "cam", 0) in output.calls
        assert len(output.calls) == 1, "the former stream's file is finished before the next one is begun"
        output.gate.set()
        runner.finish(10)
        assert output.done() == [
            ("open", "cam", 0),
            ("write", "cam", 0),
            ("close", "cam", ENDED),
            ("open", "cam", 0),
            *(("write", "cam", i) for i in range(100)),
            ("close", "cam", ENDED),
            ("shutdown",),
        ]


def test_an_output_that_cannot_be_opened_for_a_stream() -> None:
    class Closed(Recorder):
        def open(self, info: StreamInfo) -> StreamWriter:
            raise OutputError("cannot write cam")

    output = Closed()
    with running(output) as (runner, errors):
        cam = runner.open(info())
        put(cam, 0)
        wait_for(lambda: errors)
        cam.close(ENDED)
        runner.finish(10)
        assert (cam.lost, [str(error) for error in errors]) == (1, ["cannot write cam"])
        assert output.done() == [("shutdown",)]


def test_an_unexpected_exception_is_an_output_error() -> None:
    class Broken(Recorder):
        def open(self, info: StreamInfo) -> StreamWriter:
            return Breaking(self, info.stream)

    class Breaking(Noting):
        def close(self, end: StreamEnd) -> None:
            super().close(end)
            raise RuntimeError("boom")

    output = Broken()
    with running(output) as (runner, errors):
        runner.open(info()).close(ENDED)
        wait_for(lambda: errors)
        runner.finish(10)
        assert isinstance(errors[0], OutputError)
        assert [str(error) for error in errors] == ["Broken: RuntimeError: boom"]
        assert output.done() == [("close", "cam", ENDED), ("shutdown",)], "closed once"


def test_an_output_without_streams_is_shut_down() -> None:
    output = Recorder()
    with running(output) as (runner, errors):
        runner.finish(10)
        assert output.done() == [("shutdown",)]
        assert errors == []


def test_reports_and_hurry_reach_the_output() -> None:
    output = Recorder()
    with running(output) as (runner, _):
        runner.report("cam", state="live", dropped=3)
        runner.hurry(4.0)
        runner.finish(10)
    assert output.calls[:3] == [
        ("report", "cam", {"state": "live", "dropped": 3}),
        ("hurry", 4.0),
        ("hurry", None),
    ]


def test_a_report_that_fails_ends_its_stream_and_loses_nothing_that_is_being_written() -> None:
    class Unheard(Recorder):
        def report(self, stream: str, **fields: str | float) -> None:
            if stream in fields:
                raise RuntimeError("boom")

    output = Unheard()
    with running(output) as (runner, errors):
        runner.report("cam", cam=1)  # which is not open yet
        cam, door = runner.open(info("cam")), runner.open(info("door"))
        output.gate.clear()
        put(cam, 0)
        put(cam, 1)
        assert output.entered.wait(20)
        runner.report("cam", cam=1)
        output.gate.set()
        put(door, 0)
        runner.report("door", state="live")
        cam.close(ENDED)
        door.close(ENDED)
        runner.finish(10)
        assert output.written("cam") == [0]
        assert output.written("door") == [0]
        assert (cam.lost, door.lost) == (1, 0)
        assert [call[1:] for call in output.calls if call[0] == "close"] == [("cam", FAILED), ("door", ENDED)]
        assert [str(error) for error in errors] == ["Unheard: RuntimeError: boom"] * 2


def test_an_output_that_is_found_to_be_gone_by_a_report_ends() -> None:
    class Gone(Recorder):
        def report(self, stream: str, **fields: str | float) -> None:
            raise OutputGoneError("no room for anything")

    with running(Gone()) as (runner, errors):
        cam = runner.open(info())
        runner.report("cam", dropped=1)
        runner.report("cam", dropped=2)
        assert runner.gone
        assert not cam.takes
        runner.finish(10)
        assert [str(error) for error in errors] == ["no room for anything"]


def test_finish_gives_up_an_output_that_is_stuck() -> None:
    output = Recorder()
    output.gate.clear()
    with running(output) as (runner, errors):
        cam = runner.open(info())
        for i in range(5):
            put(cam, i)
        assert output.entered.wait(10)
        runner.finish(0.2)
        assert [str(error) for error in errors] == ["Recorder was stuck for 0.2 s; 5 results are lost"]
        assert runner.gone
        assert cam.lost == 5


def test_finish_gives_up_at_its_deadline() -> None:
    output = Recorder()
    output.gate.clear()
    with running(output) as (runner, errors):
        put(runner.open(info()), 0)
        assert output.entered.wait(10)
        runner.finish(deadline=lambda: 0.0)
        assert [str(error) for error in errors] == ["Recorder could not finish in time; 1 results are lost"]


@pytest.mark.parametrize("paced", [True, False])
def test_only_an_output_that_is_paced_by_its_reader_is_never_given_up(paced: bool) -> None:
    output = Recorder()
    output.paced_by_reader = paced
    output.gate.clear()
    with running(output) as (runner, errors):
        put(runner.open(info()), 0)
        assert output.entered.wait(10)
        finishing = threading.Thread(target=runner.finish, args=(0.05,), kwargs={"deadline": lambda: 0.0})
        finishing.start()
        if paced:
            finishing.join(0.3)
            assert finishing.is_alive()
        else:
            wait_for(lambda: errors)
        assert len(errors) == (0 if paced else 1)
        output.gate.set()
        finishing.join(10)
        assert output.written() == [0]


def test_abort_discards_and_closes_as_failed() -> None:
    output = Recorder()
    output.gate.clear()
    with running(output) as (runner, errors):
        cam = runner.open(info())
        for i in range(5):
            put(cam, i)
        assert output.entered.wait(10)
        runner.abort(timeout=0)
        output.gate.set()
        runner.abort()
        assert output.done() == [
            ("open", "cam", 0),
            ("write", "cam", 0),
            ("close", "cam", FAILED),
            ("shutdown",),
        ]
        put(cam, 5)
        assert cam.lost == 5
        assert errors == []


class Failing(Recorder):
    """Raises from the depths of a function that holds the frame."""

    def open(self, info: StreamInfo) -> StreamWriter:
        return Holding(self, info.stream)


class Holding(Noting):
    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        try:
            raise KeyError(frame.index if frame else 0)
        except KeyError as error:
            raise OutputError("cannot write") from error


def test_a_kept_error_keeps_no_frame() -> None:
    output = Failing(Pixels.ALWAYS)
    with running(output) as (runner, errors):
        held: list[Any] = [weakref.ref(put(runner.open(info()), 0))]
        wait_for(lambda: errors)
        wait_for(lambda: not kept(held), what="the frame let go")
        assert runner.error is errors[0]


def test_an_end_waits_for_the_other_outputs_of_its_stream() -> None:
    slow, marker = Recorder(), Recorder()
    slow.gate.clear()
    with running(slow) as (first, _), running(marker) as (last, _):
        before, after = first.open(info("cam")), last.open(info("cam"))
        put(before, 0)
        put(after, 0)
        after.close(ENDED, behind=[before])
        wait_for(lambda: marker.written() == [0], what="the result is written at once")
        before.close(ENDED)
        assert ("close", "cam", ENDED) not in marker.calls
        slow.gate.set()
        wait_for(lambda: ("close", "cam", ENDED) in marker.calls, what="the end")
        assert slow.calls[-1] == ("close", "cam", ENDED)
