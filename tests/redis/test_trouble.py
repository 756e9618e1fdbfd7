"""Brokers in trouble: they forget, fill up, are locked or speak TLS."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from streamseg.client import subscribe
from streamseg.errors import OutputError, UsageError
from streamseg.redis.publish import RedisOutput
from streamseg.types import StreamEnd, StreamWriter
from tests.support.broker import RunningBroker, running_broker, wait_for
from tests.support.clips import frame, info, instances, result_of
from tests.support.pages import ROOT
from tests.support.runs import published_frames
from tests.support.servers import free_port
from tests.support.tls import tls_in_front_of

RESULTS = "streamseg:{cam}:results"


def publish(writer: StreamWriter, indexes: range, stream: str = "cam") -> None:
    for i in indexes:
        writer.write(result_of(frame(i, stream=stream), instances(boxes=[(5, 5, 20, 20)])), None, None)


def test_a_broker_that_forgot_its_last_seconds_gets_them_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Redis writes its log once a second; this one never does."""
    with running_broker(tmp_path / "broker", options=("--appendonly", "no")) as broker:
        output = RedisOutput(broker.url)
        cam, door = output.open(info("cam")), output.open(info("door"))
        publish(cam, range(30))
        publish(door, range(30), "door")
        broker.kill()
        broker.start()
        assert published_frames(broker, "cam") == []
        publish(cam, range(30, 40))
        publish(door, range(30, 40), "door")
        assert published_frames(broker, "cam") == published_frames(broker, "door") == list(range(40))
        output.shutdown()
    assert "had lost 30 results of stream cam" in caplog.text


def test_the_last_results_of_a_stream_that_is_over_are_not_forgotten_either(tmp_path: Path) -> None:
    with running_broker(tmp_path / "broker", options=("--appendonly", "no")) as broker:
        output = RedisOutput(broker.url)
        cam, door = output.open(info("cam")), output.open(info("door"))
        publish(cam, range(5))
        publish(door, range(1), "door")
        cam.close(StreamEnd.ENDED)
        broker.kill()
        broker.start()
        publish(door, range(1, 2), "door")
        assert published_frames(broker, "cam") == list(range(5))
        output.shutdown()


def test_a_subscriber_sees_no_result_twice_when_the_broker_forgot(tmp_path: Path) -> None:
    with running_broker(tmp_path / "broker", options=("--appendonly", "no")) as broker:
        output = RedisOutput(broker.url)
        writer = output.open(info())
        with subscribe(broker.url, ["cam"], timeout=20) as subscription:
            publish(writer, range(20))
            seen = [next(subscription).frame for _ in range(20)]
            broker.kill()
            broker.start()
            publish(writer, range(20, 30))
            seen += [next(subscription).frame for _ in range(10)]
        assert seen == list(range(30))
        output.shutdown()


def test_the_broker_does_not_grow(broker: RunningBroker) -> None:
    def used() -> int:
        with broker.client() as client:  # of the stream: the whole server also buffers its log
            return int(client.memory_usage(RESULTS, samples=0))

    boxes = [(x, y, x + 3, y + 3) for x in range(0, 60, 4) for y in range(0, 44, 4)]  # 20 KB a result
    result = result_of(frame(0), instances(boxes=boxes))
    output = RedisOutput(broker.url, maxlen=50)
    writer = output.open(info())
    sizes = []
    for _ in range(3):
        for _ in range(400):
            writer.write(result, None, None)
        sizes.append(used())
    with broker.client() as client:
        assert 50 <= client.xlen(RESULTS) <= 150
    assert sizes[2] < sizes[0] * 1.1
    output.shutdown()


def test_a_full_broker_is_waited_for(broker: RunningBroker, caplog: pytest.LogCaptureFixture) -> None:
    output = RedisOutput(broker.url)
    writer = output.open(info())
    publish(writer, range(3))
    with broker.client() as client:
        client.config_set("maxmemory", 1)
        thread = threading.Thread(target=publish, args=(writer, range(3, 6)))
        thread.start()
        wait_for(lambda: "cannot do its work (command not allowed when used memory" in caplog.text)
        client.config_set("maxmemory", 0)
    thread.join(20)
    assert published_frames(broker, "cam") == list(range(6))
    output.shutdown()


def test_the_end_of_a_run_waits_only_as_long_as_the_user(broker: RunningBroker) -> None:
    output = RedisOutput(broker.url)
    writer = output.open(info())
    publish(writer, range(1))
    broker.kill()
    errors: list[Exception] = []

    def write() -> None:
        try:
            publish(writer, range(1, 3))
        except OutputError as error:
            errors.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    output.hurry()  # all sources have ended: a minute would be fine
    thread.join(0.3)
    assert thread.is_alive()
    output.hurry(0.1)  # Ctrl-C
    thread.join(10)
    assert "cannot be reached" in str(errors[0])
    output.shutdown()


PUBLISHER = ["+xadd", "+xrange", "+xrevrange", "+xinfo", "+sadd", "+hset", "+expire", "+ping"]
SUBSCRIBER = ["+xread", "+xrevrange", "+smembers", "+ping"]


def test_users_with_no_more_rights_than_they_need(tmp_path: Path) -> None:
    """The commands are those that the page names."""
    page = (ROOT / "docs" / "howto" / "redis.md").read_text()
    assert all(" ".join(commands) in page for commands in (PUBLISHER, SUBSCRIBER))
    with running_broker(tmp_path / "broker") as broker:
        with broker.client() as client:
            for name, commands in (("pub", PUBLISHER), ("sub", SUBSCRIBER)):
                client.execute_command("ACL", "SETUSER", name, "on", ">p@ss/w:rd", "~streamseg:*", *commands)
            client.execute_command("ACL", "SETUSER", "default", "off")
        at = f"127.0.0.1:{broker.port}"
        output = RedisOutput(f"redis://pub:p%40ss%2Fw%3Ard@{at}/0")
        output.check()
        writer = output.open(info())
        with subscribe(f"redis://sub:p%40ss%2Fw%3Ard@{at}/0", timeout=10) as subscription:
            publish(writer, range(3))
            output._client._client.connection_pool.disconnect()
            publish(writer, range(3, 6))
            assert [next(subscription).frame for _ in range(6)] == list(range(6))
        writer.close(StreamEnd.ENDED)
        output.shutdown()


def test_tls(broker: RunningBroker, tmp_path: Path) -> None:
    with tls_in_front_of(broker.port, tmp_path) as (port, authority):
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={authority}"
        output = RedisOutput(url)
        output.check()
        writer = output.open(info())
        with subscribe(url, ["cam"], timeout=20) as subscription:
            publish(writer, range(5))
            assert [next(subscription).frame for _ in range(5)] == list(range(5))
            broker.kill()
            broker.start()
            publish(writer, range(5, 10))
            assert [next(subscription).frame for _ in range(5)] == list(range(5, 10))
        output.shutdown()


@pytest.mark.parametrize("case", ["unknown authority", "other name"])
def test_tls_that_cannot_be_is_refused_at_the_start(broker: RunningBroker, tmp_path: Path, case: str) -> None:
    name = "elsewhere.example" if case == "other name" else "localhost"
    with tls_in_front_of(broker.port, tmp_path, name=name) as (port, authority):
        trust = "" if case == "unknown authority" else f"?ssl_ca_certs={authority}"
        url = f"rediss://:pa55word@localhost:{port}/0{trust}"
        with pytest.raises(UsageError, match="refuses us") as error:
            RedisOutput(url).check()
        with pytest.raises(UsageError, match="refuses us"):
            subscribe(url, ["cam"])
    assert "\n" not in str(error.value)
    assert "pa55word" not in str(error.value)


BAD_URLS = [
    "http://u:pa55word@host",
    "redis://u:pa55word",
    "redis://:pa55word@host:port/0",
    "redis://u:pa55word@host:99999/0",
    "redis://u:pa55word@host/zero",
    "redis://u:pa55word@host/0/1",
    "redis://u:pa55word@host?foo=1",
    "redis://u:pa55word@host?db=x",
    "redis://u:pa55word@host?socket_timeout=soon",
    "redis://u:pa55word@[::1/0",
    "redis://u:pa55word@a..b/0",
    f"redis://u:pa55word@{'a' * 70}/0",
    "redis://u:pa55 word@host/0",
    "redis://u:pa55word\n@host/0",
    "redis://u:pa55word\ud800@host/0",
    "rediss://u:pa55word@host?ssl_cert_reqs=maybe",
    "redis://host/?password=pa55word&x=1",
    "pa55word",
    "",
]


@pytest.mark.parametrize("url", BAD_URLS, ids=[ascii(url)[1:40] for url in BAD_URLS])
def test_bad_urls_are_named_without_their_password(url: str) -> None:
    for use in (RedisOutput, lambda url: subscribe(url, ["cam"])):
        with pytest.raises(UsageError, match=r"^Redis URL") as error:
            use(url)
        assert "\n" not in str(error.value)
        assert "pa55" not in str(error.value)


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("127.0.0.1", "cannot be reached (Error 111 "),
        ("no-such-host.invalid", "cannot be found: its name does not resolve"),
    ],
)
def test_a_broker_that_cannot_be_reached_is_told_of_without_its_password(
    host: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"redis://u:pa55word@{host}:{free_port()}/0"
    RedisOutput(url).check()
    subscribe(url, ["cam"]).close()
    assert caplog.text.count(words) == 2
    assert "pa55word" not in caplog.text


def test_errors_of_the_broker_itself_hold_no_password(broker: RunningBroker) -> None:
    with broker.client() as client:
        client.set(RESULTS, "no stream")
    output = RedisOutput(broker.url)
    writer = output.open(info())
    with pytest.raises(OutputError, match="WRONGTYPE"):
        publish(writer, range(1))
    output.shutdown()
