"""Publishing to a real broker: what is written, and what an outage does."""

import logging
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import redis

from streamseg.client import subscribe
from streamseg.errors import OutputError, UsageError
from streamseg.redis import entries as redis_entries
from streamseg.redis.publish import RedisOutput
from streamseg.types import FrameResult, Pixels, StreamEnd, StreamWriter
from tests.support.broker import RunningBroker, running_broker, wait_for
from tests.support.clips import frame, info, instances, result_of

RESULTS, OVERLAYS = "streamseg:{cam}:results", "streamseg:{cam}:overlays"


def frames_in(broker: RunningBroker, key: str = RESULTS) -> list[int]:
    with broker.client() as client:
        entries = client.xrange(key)
    return [msgspec.json.decode(fields[b"result"], type=FrameResult).frame for _, fields in entries]


def publish(writer: StreamWriter, indexes: range, *, pictures: bool = False) -> None:
    for i in indexes:
        f, found = frame(i), instances(boxes=[(5, 5, 20, 20)])
        writer.write(result_of(f, found), *((f, found) if pictures else (None, None)))


def test_results_overlays_and_known_streams(broker: RunningBroker) -> None:
    output = RedisOutput(broker.url, overlays=True)
    writer = output.open(info())
    publish(writer, range(5), pictures=True)
    assert frames_in(broker) == list(range(5))
    with broker.client() as client:
        assert client.smembers("streamseg:streams") == {b"cam"}
        entries = client.xrange(OVERLAYS)
    assert [(int(e[b"frame"]), float(e[b"pts"])) for _, e in entries] == [(i, i * 0.04) for i in range(5)]
    picture = cv2.imdecode(np.frombuffer(entries[0][1][b"jpeg"], np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (48, 64, 3)
    assert picture[40, 5, 2] > 200, "the red bar is red: JPEG is encoded from BGR"
    writer.close(StreamEnd.ENDED)
    output.shutdown()


def test_a_stream_that_comes_later_does_not_ask_on_the_writers_connection(broker: RunningBroker) -> None:
    """A second connection, made while another thread writes, would send again what it has just sent."""
    output = RedisOutput(broker.url)
    output.check()
    writer = output.open(info())
    publish(writer, range(2))
    broker.freeze()
    try:
        writing = threading.Thread(target=publish, args=(writer, range(2, 4)))
        writing.start()
        began = time.monotonic()
        output.check(["more"])
        assert time.monotonic() - began < 2, "the broker is not asked"
    finally:
        broker.thaw()
    writing.join()
    assert frames_in(broker) == list(range(4))
    writer.close(StreamEnd.ENDED)
    output.shutdown()


def test_ids_of_any_script(broker: RunningBroker) -> None:
    output = RedisOutput(broker.url)
    output.open(replace(info(), stream="видео")).write(result_of(frame(0)), None, None)
    with broker.client() as client:
        assert client.smembers("streamseg:streams") == {"видео".encode()}
    with subscribe(broker.url, ["видео"], start="start") as results:
        assert next(results).frame == 0
    with pytest.raises(UsageError, match="stream id 'a b': allowed are 1 to 64 letters and digits"):
        subscribe(broker.url, ["a b"])
    output.shutdown()


def test_streams_are_trimmed(broker: RunningBroker) -> None:
    output = RedisOutput(broker.url, overlays=True, maxlen=200, overlays_maxlen=20)
    writer = output.open(info())
    publish(writer, range(700), pictures=True)
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
    writer = output.open(info(live=True, url="rtsp://viewer:secret@10.0.0.5/s", epoch=2))
    output.report("cam", state="live")
    publish(writer, range(0, 30, 3))
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
    output.report("cam", state="failed", error="gone")
    writer.close(StreamEnd.FAILED)
    output.shutdown()
    assert (status("state"), status("error")) == ("failed", "gone")
    with broker.client() as client:
        assert client.ttl("streamseg:{cam}:status") > 60


def test_what_cannot_be_published_any_more_is_no_end_of_the_camera(broker: RunningBroker) -> None:
    output = RedisOutput(broker.url)
    writer = output.open(info())
    writer.close(StreamEnd.FAILED)
    output.shutdown()
    with broker.client() as client:
        assert client.hget("streamseg:{cam}:status", "state") == b"live"


def test_a_lost_answer_is_not_a_second_entry(broker: RunningBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other answer is lost after the broker has done its work."""
    output = RedisOutput(broker.url, overlays=True)
    writer = output.open(info())
    execute, calls = redis.client.Pipeline.execute, [0]

    def lossy(pipe: redis.client.Pipeline, **options: bool) -> object:  # type: ignore[type-arg]
        publishes = any(command[0][0] == "XADD" for command in pipe.command_stack)
        answers = execute(pipe, **options)
        calls[0] += publishes
        if publishes and calls[0] % 2:
            raise redis.ConnectionError("Connection closed by server")
        return answers

    monkeypatch.setattr(redis.client.Pipeline, "execute", lossy)
    publish(writer, range(6), pictures=True)
    assert calls[0] == 12
    assert frames_in(broker) == list(range(6))
    with broker.client() as client:
        assert client.xlen(OVERLAYS) == 6
    output.shutdown()


def test_ids_go_on_behind_a_writer_whose_clock_is_ahead(broker: RunningBroker) -> None:
    with broker.client() as client:
        client.xadd(RESULTS, {"result": b"{}"}, id="99999999999999-5")
        output = RedisOutput(broker.url)
        writer = output.open(info())
        publish(writer, range(3))
        ids = [id_ for id_, _ in client.xrange(RESULTS)]
    assert ids == [b"99999999999999-5", b"99999999999999-6", b"99999999999999-7", b"99999999999999-8"]
    output.shutdown()


def test_a_writer_of_a_stream_that_comes_back_goes_on_behind_the_first(
    broker: RunningBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while the clock stands still."""
    monkeypatch.setattr(redis_entries.time, "time_ns", lambda: 1_700_000_000_000_000_000)
    output = RedisOutput(broker.url)
    first = output.open(info())
    publish(first, range(3))
    first.close(StreamEnd.ENDED)
    again = output.open(info())
    assert again is not first
    publish(again, range(3))
    assert frames_in(broker) == [0, 1, 2, 0, 1, 2]
    with broker.client() as client:
        wait_for(lambda: client.hget("streamseg:{cam}:status", "state") == b"live")
    again.close(StreamEnd.STOPPED)
    output.shutdown()
    with broker.client() as client:
        assert client.hget("streamseg:{cam}:status", "state") == b"ended"


def test_the_end_of_a_stream_that_came_back_meanwhile_is_told(broker: RunningBroker) -> None:
    """It comes back and ends again while the broker is being told of its first end."""
    output = RedisOutput(broker.url)
    board = output._status
    told, send = threading.Event(), board._send

    def slow_send(due: Any) -> set[str]:
        refused = send(due)
        if not told.is_set() and any(over for _, over in due.values()):
            told.set()
            again = output.open(info(epoch=7))
            output.report("cam", state="failed")
            again.close(StreamEnd.FAILED)
        return refused

    board._send = slow_send  # type: ignore[method-assign]
    output.open(info()).close(StreamEnd.ENDED)
    assert told.wait(20)
    with broker.client() as client:
        wait_for(lambda: client.hget("streamseg:{cam}:status", "state") == b"failed")
        assert client.hget("streamseg:{cam}:status", "reconnects") == b"7"
    output.shutdown()


def test_the_next_epoch_is_told(broker: RunningBroker) -> None:
    output = RedisOutput(broker.url)
    writer = output.open(info(live=True))
    writer.begin_epoch(info(live=True, epoch=1, width=128))
    with broker.client() as client:
        wait_for(lambda: client.hmget("streamseg:{cam}:status", "reconnects", "width") == [b"1", b"128"])
    output.shutdown()


def test_pixels_are_wanted_for_overlays_alone() -> None:
    assert RedisOutput("redis://localhost").pixels is Pixels.NEVER
    assert RedisOutput("redis://localhost", overlays=True).pixels is Pixels.RECENT


def test_nothing_is_started_before_a_stream_begins() -> None:
    before = threading.active_count()
    outputs = [RedisOutput("redis://localhost") for _ in range(5)]
    assert threading.active_count() == before
    for output in outputs:
        output.shutdown()


def test_a_broker_that_comes_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_broker(tmp_path, start=False) as broker:
        output = RedisOutput(broker.url)
        writer = output.open(info())
        assert [r.levelno for r in caplog.records] == [logging.WARNING]
        thread = threading.Thread(target=publish, args=(writer, range(3)))
        thread.start()
        broker.start()
        thread.join(20)
        assert frames_in(broker) == [0, 1, 2]
        output.shutdown()


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
    writer = output.open(info())
    with pytest.raises(OutputError, match="Redis at"):
        publish(writer, range(1))
    output.shutdown()
