"""The Redis output behind its backlogs, while the broker is away."""

from pathlib import Path

import pytest

from streamseg.errors import OutputError, StreamsegError
from streamseg.outputs import OutputRunner
from streamseg.redis.publish import RedisOutput
from streamseg.types import StreamEnd
from tests.support.broker import RunningBroker, running_broker, wait_for
from tests.support.clips import frame, info, instances, result_of
from tests.support.runs import published_frames


def test_a_restart_loses_and_repeats_nothing(broker: RunningBroker, caplog: pytest.LogCaptureFixture) -> None:
    errors: list[StreamsegError] = []
    runner = OutputRunner(RedisOutput(broker.url), on_error=errors.append)
    runner.start()
    backlog = runner.open(info())

    def put(indexes: range) -> None:
        for i in indexes:
            f = frame(i)
            backlog.put(result_of(f), f, instances())

    put(range(100))
    wait_for(lambda: len(published_frames(broker, "cam")) > 10)
    broker.kill()
    put(range(100, 300))
    wait_for(lambda: "cannot be reached" in caplog.text)
    broker.start()
    put(range(300, 400))
    backlog.close(StreamEnd.ENDED)
    runner.finish(20)
    assert published_frames(broker, "cam") == list(range(400))
    assert errors == []
    assert len([r for r in caplog.records if "cannot be reached" in r.message]) <= 2


def test_the_end_waits_for_a_lost_broker_for_a_bounded_time(broker: RunningBroker) -> None:
    errors: list[StreamsegError] = []
    runner = OutputRunner(RedisOutput(broker.url, patience=0.3), on_error=errors.append)
    runner.start()
    backlog = runner.open(info())
    f = frame(0)
    backlog.put(result_of(f), f, instances())
    wait_for(lambda: published_frames(broker, "cam") == [0])
    broker.kill()
    for i in range(1, 8):
        backlog.put(result_of(frame(i)), frame(i), instances())
    backlog.close(StreamEnd.ENDED)
    runner.finish(20)
    assert isinstance(runner.error, OutputError)
    assert "cannot be reached" in str(runner.error)
    assert "7 results are lost" in str(runner.error)
    assert errors == [runner.error]


def test_a_live_stream_ends_without_its_last_results(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_broker(tmp_path, start=False) as broker:
        runner = OutputRunner(RedisOutput(broker.url, patience=0.2), on_error=lambda _: None)
        runner.start()
        backlog = runner.open(info(live=True))
        for i in range(5):
            backlog.put(result_of(frame(i)), frame(i), instances())
        backlog.close(StreamEnd.ENDED)
        runner.finish(20)
    assert runner.error is None
    assert "5 results of stream cam dropped" in caplog.text
