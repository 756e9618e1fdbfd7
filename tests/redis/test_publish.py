"""Publishing to a real broker: what is written, and what an outage does."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import redis

from streamseg.errors import OutputError, StreamsegError, UsageError
from streamseg.outputs import OutputQueue
from streamseg.redis.publish import RedisOutput
from streamseg.types import FrameResult
from tests.support.broker import RunningBroker, running_broker, wait_for
from tests.support.clips import frame, info, instances, result_of

RESULTS, OVERLAYS = "streamseg:{cam}:results", "streamseg:{cam}:overlays"


def frames_in(broker: RunningBroker, key: str = RESULTS) -> list[int]:
    with broker.client() as client:
        entries = client.xrange(key)
    return [msgspec.json.decode(fields[b"result"], type=FrameResult).frame for _, fields in entries]


def publish(output: RedisOutput, indexes: range, **changes: object) -> None:
    for i in indexes:
        f = frame(i, **changes)  # type: ignore[arg-type]
        found = instances(boxes=[(5, 5, 20, 20)])
        output.write(result_of(f, found), *((f, found) if output.needs_pixels else (None, None)))


def test_results_overlays_and_known_streams(broker: RunningBroker) -> None:
    output = RedisOutput(broker.url, overlays=True)
    output.open(info())
    publish(output, range(5))
    assert frames_in(broker) == list(range(5))
    with broker.client() as client:
        assert client.smembers("streamseg:streams") == {b"cam"}
        entries = client.xrange(OVERLAYS)
    assert [(int(e[b"frame"]), float(e[b"pts"])) for _, e in entries] == [(i, i * 0.04) for i in range(5)]
    picture = cv2.imdecode(np.frombuffer(entries[0][1][b"jpeg"], np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (48, 64, 3)
    assert picture[40, 5, 2] > 200, "the red bar is red: JPEG is encoded from BGR"
    output.close("cam", complete=True)
    output.shutdown()


def test_streams_are_trimmed(broker: RunningBroker) -> None:
    output = RedisOutput(broker.url, overlays=True, maxlen=200, overlays_maxlen=20)
    output.open(info())
    publish(output, range(700))
    with broker.client() as client:
        assert 200 <= client.xlen(RESULTS) <= 400, "about: whole nodes of 100 entries go"
        assert 20 <= client.xlen(OVERLAYS) <= 220
    assert frames_in(broker)[-200:] == list(range(500, 700))
    output.shutdown()


def test_status(broker: RunningBroker) -> None:
    def status(field: str) -> str:
        with broker.client() as client:
            return (client.hget("streamseg:{cam}:status", field) or b"").decode()

    output = RedisOutput(broker.url)
    output.report("cam", state="connecting")
    wait_for(lambda: status("state") == "connecting")
    output.open(info(live=True, url="rtsp://viewer:secret@10.0.0.5/s", epoch=2))
    output.report("cam", state="live")
    publish(output, range(0, 30, 3))
    wait_for(lambda: status("frames") == "10")
    assert status("state") == "live"
    assert status("source") == "rtsp://viewer:***@10.0.0.5/s"
    assert [status(f) for f in ("width", "height", "fps", "dropped", "reconnects")] == [
        "64",
        "48",
        "25.0",
        "18",
        "2",
    ]
    assert float(status("last_frame_time")) > 1e9
    with broker.client() as client:
        assert 0 < client.ttl("streamseg:{cam}:status") <= 15
    output.report("cam", error="gone")
    output.close("cam", complete=False)
    output.shutdown()
    assert (status("state"), status("error")) == ("failed", "gone")
    with broker.client() as client:
        assert client.ttl("streamseg:{cam}:status") > 60


def test_a_restart_loses_and_repeats_nothing(broker: RunningBroker, caplog: pytest.LogCaptureFixture) -> None:
    errors: list[StreamsegError] = []
    queue = OutputQueue(RedisOutput(broker.url), on_error=errors.append)
    queue.open(info())

    def put(indexes: range) -> None:
        for i in indexes:
            f = frame(i)
            queue.put(result_of(f), f, instances())

    put(range(100))
    wait_for(lambda: len(frames_in(broker)) > 10)
    broker.kill()
    put(range(100, 300))
    wait_for(lambda: "cannot be reached" in caplog.text)
    broker.start()
    put(range(300, 400))
    queue.close("cam", complete=True)
    queue.finish(20)
    assert frames_in(broker) == list(range(400))
    assert errors == []
    assert len([r for r in caplog.records if "cannot be reached" in r.message]) <= 2


def test_a_lost_answer_is_not_a_second_entry(broker: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other answer is lost after the broker has done its work."""
    output = RedisOutput(broker.url, overlays=True)
    output.open(info())
    execute, calls = redis.client.Pipeline.execute, [0]

    def lossy(pipe: redis.client.Pipeline, **options: bool) -> object:  # type: ignore[type-arg]
        answers = execute(pipe, **options)
        calls[0] += "raise_on_error" in options
        if "raise_on_error" in options and calls[0] % 2:
            raise redis.ConnectionError("Connection closed by server")
        return answers

    monkeypatch.setattr(redis.client.Pipeline, "execute", lossy)
    publish(output, range(6))
    assert calls[0] == 12
    assert frames_in(broker) == list(range(6))
    with broker.client() as client:
        assert client.xlen(OVERLAYS) == 6
    output.shutdown()


def test_ids_go_on_behind_a_writer_whose_clock_is_ahead(broker: RunningBroker) -> None:
    with broker.client() as client:
        client.xadd(RESULTS, {"result": b"{}"}, id="99999999999999-5")
        output = RedisOutput(broker.url)
        output.open(info())
        publish(output, range(3))
        ids = [id_ for id_, _ in client.xrange(RESULTS)]
    assert ids == [b"99999999999999-5", b"99999999999999-6", b"99999999999999-7", b"99999999999999-8"]
    output.shutdown()


def test_a_broker_that_comes_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_broker(tmp_path, start=False) as broker:
        output = RedisOutput(broker.url)
        output.open(info())
        assert [r.levelno for r in caplog.records] == [logging.WARNING]
        writer = threading.Thread(target=publish, args=(output, range(3)))
        writer.start()
        broker.start()
        writer.join(20)
        assert frames_in(broker) == [0, 1, 2]
        output.shutdown()


def test_the_end_waits_for_a_lost_broker_for_a_bounded_time(tmp_path: Path) -> None:
    errors: list[StreamsegError] = []
    with running_broker(tmp_path) as broker:
        queue = OutputQueue(RedisOutput(broker.url, patience=0.3), on_error=errors.append)
        queue.open(info())
        f = frame(0)
        queue.put(result_of(f), f, instances())
        wait_for(lambda: frames_in(broker) == [0])
        broker.kill()
        for i in range(1, 8):
            queue.put(result_of(frame(i)), frame(i), instances())
        queue.close("cam", complete=True)
        queue.finish(20)
    assert isinstance(queue.error, OutputError)
    assert "cannot be reached" in str(queue.error)
    assert "7 results are lost" in str(queue.error)
    assert errors == [queue.error]


def test_a_live_stream_ends_without_its_last_results(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with running_broker(tmp_path, start=False) as broker:
        queue = OutputQueue(RedisOutput(broker.url, patience=0.2), on_error=lambda _: None)
        queue.open(info(live=True))
        for i in range(5):
            queue.put(result_of(frame(i)), frame(i), instances())
        queue.close("cam", complete=True)
        queue.finish(20)
    assert queue.error is None
    assert "5 results of stream cam dropped" in caplog.text


@pytest.mark.parametrize(
    "url",
    ["http://localhost", "redis://:hidden@host:port/0", "redis://:hidden@host/zero", "redis://u:hid/den@h:x"],
)
def test_a_bad_url_is_a_usage_error_that_hides_the_password(url: str) -> None:
    with pytest.raises(UsageError, match=r"Redis URL .*write redis://") as error:
        RedisOutput(url)
    assert "hid" not in str(error.value)


def test_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_broker(tmp_path, options=("--requirepass", "right", "--databases", "2")) as broker:
        at = f"127.0.0.1:{broker.port}"
        for url in (f"redis://{at}/0", f"redis://:wrong@{at}/0", f"redis://:right@{at}/7"):
            with pytest.raises(UsageError, match=f"Redis at {at}/. refuses us") as error:
                RedisOutput(url).check()
            assert "wrong" not in str(error.value)
            assert "right" not in str(error.value)
        RedisOutput(f"redis://:right@{at}/1").check()
        monkeypatch.setenv("REDIS_PASSWORD", "right")
        RedisOutput(f"redis://{at}/0").check()


def test_a_user_that_may_not_write_is_an_error(broker: RunningBroker) -> None:
    with broker.client() as client:
        client.acl_setuser("eve", enabled=True, passwords=["+pw"], keys=["other:*"], commands=["+@all"])
    output = RedisOutput(f"redis://eve:pw@127.0.0.1:{broker.port}/0")
    output.open(info())
    with pytest.raises(OutputError, match="Redis at"):
        publish(output, range(1))
    output.shutdown()
