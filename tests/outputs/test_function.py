"""A function of the user's as an output, and results for the program itself."""

import threading

import pytest

from streamseg.errors import OutputGoneError, StreamsegError
from streamseg.outputs import FunctionOutput, MemoryOutput, OutputRunner
from streamseg.types import Frame, FrameResult, Instances, Output, StreamEnd
from tests.support.clips import frame, info, instances, result_of


def run(output: Output, *streams: str, live: bool = False) -> list[StreamsegError]:
    """Ten frames of each stream through an output."""
    errors: list[StreamsegError] = []
    runner = OutputRunner(output, on_error=errors.append)
    runner.start()
    backlogs = [runner.open(info(stream, live=live)) for stream in streams]
    for i in range(10):
        for backlog in backlogs:
            taken, found = frame(i, stream=backlog.stream), instances(boxes=[(5, 5, 20, 20)])
            backlog.put(result_of(taken, found), taken, found)
    for backlog in backlogs:
        backlog.close(StreamEnd.ENDED)
    runner.finish(20)
    return errors


def test_a_function_gets_results_with_pixels_and_instances() -> None:
    taken: list[tuple[str, int]] = []
    busy = threading.Lock()

    def sink(result: FrameResult, frame: Frame, found: Instances) -> None:
        with busy:
            assert frame.pixels.shape == (48, 64, 3)
            assert found.labels == ("person",)
            assert (result.stream, result.frame) == (frame.stream, frame.index)
            taken.append((result.stream, result.frame))

    assert run(FunctionOutput(sink), "a", "b") == []
    assert [i for stream, i in taken if stream == "a"] == list(range(10))
    assert [i for stream, i in taken if stream == "b"] == list(range(10))


def test_a_function_that_raises_is_named_and_done_with_that_stream() -> None:
    taken: list[str] = []

    def picky(result: FrameResult, frame: Frame, found: Instances) -> None:
        if result.stream == "a":
            raise LookupError("no such person")
        taken.append(result.stream)

    (error,) = run(FunctionOutput(picky), "a", "b")
    assert str(error).startswith("picky: LookupError: no such person")
    assert taken == ["b"] * 10


def test_a_function_can_say_that_it_takes_nothing_more() -> None:
    def gone(result: FrameResult, frame: Frame, found: Instances) -> None:
        raise OutputGoneError("the screen is gone")

    (error,) = run(FunctionOutput(gone), "a", "b")
    assert isinstance(error, OutputGoneError)
    assert str(error).startswith("the screen is gone")


@pytest.mark.parametrize("read", [3, 20])
def test_results_in_memory_wait_for_their_reader(read: int) -> None:
    output = MemoryOutput(size=2)
    runs = threading.Thread(target=run, args=(output, "a", "b"))
    runs.start()
    results = [output.get() for _ in range(read)]
    if read == 20:
        assert output.get() is None
    output.abandon()
    runs.join(20)
    assert not runs.is_alive()
    for stream in ("a", "b"):
        frames = [result.frame for result in results if result is not None and result.stream == stream]
        assert frames == list(range(len(frames)))
    assert None not in results
