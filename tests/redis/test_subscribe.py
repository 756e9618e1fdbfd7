"""Subscribing to a real broker, with restarts in between."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streamseg.client import Subscription, asubscribe, subscribe
from streamseg.errors import RunError, UsageError
from streamseg.types import FrameResult
from tests.support.broker import RunningBroker, running_broker, wait_for
from tests.support.clips import frame, instances, result_of


def publish(broker: RunningBroker, *indexes: int, stream: str = "cam") -> list[str]:
    """Publish as the output does; returns the ids."""
    ids = []
    with broker.client() as client:
        for i in indexes:
            found = instances(boxes=[(5, 6, 20, 30)])
            payload = msgspec.json.encode(result_of(frame(i, stream=stream), found))
            ids.append(client.xadd(f"streamseg:{{{stream}}}:results", {"result": payload}).decode())
        client.sadd("streamseg:streams", stream)
    return ids


def take(subscription: Iterator[FrameResult], n: int) -> list[tuple[str, int]]:
    return [(r.stream, r.frame) for r in (next(subscription) for _ in range(n))]


def cam(*indexes: int) -> list[tuple[str, int]]:
    return [("cam", i) for i in indexes]


def test_now_is_the_moment_of_the_call(broker: RunningBroker) -> None:
    publish(broker, 0, 1, 2)
    with subscribe(broker.url, ["cam"], timeout=5) as subscription:
        publish(broker, 3, 4)
        assert take(subscription, 2) == cam(3, 4)


def test_now_of_a_stream_that_has_not_begun(broker: RunningBroker) -> None:
    with subscribe(broker.url, ["cam"], timeout=5) as subscription:
        publish(broker, 0, 1)
        assert take(subscription, 2) == cam(0, 1)


def test_start_and_ids(broker: RunningBroker) -> None:
    ids = publish(broker, *range(150))
    with subscribe(broker.url, ["cam"], start="start", timeout=5) as subscription:
        assert take(subscription, 150) == cam(*range(150))
        assert subscription.positions == {"cam": ids[-1]}
    with subscribe(broker.url, ["cam"], start=ids[147], timeout=5) as subscription:
        assert take(subscription, 2) == cam(148, 149)
    with subscribe(broker.url, ["cam"], start={"cam": ids[148]}, timeout=5) as subscription:
        assert take(subscription, 1) == cam(149)


def test_masks_are_decoded(broker: RunningBroker) -> None:
    publish(broker, 0)
    with subscribe(broker.url, ["cam"], start="start", timeout=5) as subscription:
        (instance,) = next(subscription).instances
    mask = instance.mask
    assert mask.shape == (48, 64)
    assert (np.flatnonzero(mask.any(axis=0))[[0, -1]] == [5, 19]).all()
    assert mask.sum() == instance.area == 15 * 24


def test_all_streams_and_new_ones(broker: RunningBroker) -> None:
    publish(broker, 0, stream="a")
    with subscribe(broker.url, timeout=10) as subscription:
        publish(broker, 1, stream="a")
        assert take(subscription, 1) == [("a", 1)]
        publish(broker, 0, 1, stream="b")
        assert take(subscription, 2) == [("b", 0), ("b", 1)]


def test_streams_come_by_time(broker: RunningBroker) -> None:
    with subscribe(broker.url, ["a", "b"], timeout=5) as subscription:
        with broker.client() as client:
            for i in range(6):
                stream = "ab"[i % 2]
                payload = msgspec.json.encode(result_of(frame(i, stream=stream)))
                client.xadd(f"streamseg:{{{stream}}}:results", {"result": payload}, id=f"{1000 + i}-0")
        assert [i for _, i in take(subscription, 6)] == list(range(6))


def test_the_time_limit_ends_it(broker: RunningBroker) -> None:
    publish(broker, 0)
    with subscribe(broker.url, ["cam"], start="start", timeout=0.2) as subscription:
        assert [r.frame for r in subscription] == [0]


def test_what_is_no_result_is_left_out(broker: RunningBroker, caplog: pytest.LogCaptureFixture) -> None:
    newer = msgspec.json.decode(msgspec.json.encode(result_of(frame(0)))) | {"v": 2}
    with subscribe(broker.url, ["cam"], timeout=5) as subscription:
        with broker.client() as client:
            client.xadd("streamseg:{cam}:results", {"result": b"{not json"})
            client.xadd("streamseg:{cam}:results", {"other": b"field"})
            client.xadd("streamseg:{cam}:results", {"result": msgspec.json.encode(newer)})
        publish(broker, 7)
        assert take(subscription, 1) == cam(7)
    assert len([r for r in caplog.records if "left out" in r.message]) == 3


def collect(subscription: Subscription, into: list[int], until: int) -> threading.Thread:
    def loop() -> None:
        for result in subscription:
            into.append(result.frame)
            if result.frame == until:
                break

    thread = threading.Thread(target=loop)
    thread.start()
    return thread


def test_a_restart_is_survived_and_nothing_missed(broker: RunningBroker) -> None:
    seen: list[int] = []
    with subscribe(broker.url, ["cam"], timeout=20) as subscription:
        reader = collect(subscription, seen, until=9)
        publish(broker, 0, 1, 2)
        wait_for(lambda: seen == [0, 1, 2])
        broker.kill()
        broker.start()
        publish(broker, *range(3, 10))
        reader.join(20)
    assert seen == list(range(10))


def test_a_broker_that_comes_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        running_broker(tmp_path, start=False) as broker,
        subscribe(broker.url, ["cam"], start="start", timeout=20) as subscription,
    ):
        broker.start()
        publish(broker, 0)
        assert take(subscription, 1) == cam(0)
    assert len([r for r in caplog.records if "cannot be reached" in r.message]) == 1


def test_async(broker: RunningBroker) -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        subscription = asubscribe(broker.url, start="start", timeout=20)
        async for result in subscription:
            seen.append(result.frame)
            if result.frame == 2:
                await asyncio.to_thread(broker.kill)
                await asyncio.to_thread(broker.start)
                await asyncio.to_thread(publish, broker, 3, 4)
            if result.frame == 4:
                break
        await subscription.aclose()
        return seen

    publish(broker, 0, 1, 2)
    assert asyncio.run(main()) == list(range(5))


def test_async_time_limit(broker: RunningBroker) -> None:
    async def main() -> list[int]:
        return [r.frame async for r in asubscribe(broker.url, ["cam"], start="start", timeout=0.2)]

    publish(broker, 0)
    assert asyncio.run(main()) == [0]


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("http://u:secret@localhost", {}, "Redis URL"),
        ("redis://u:secret@localhost:port", {}, "Redis URL"),
        ("redis://localhost", {"streams": ["a/b"]}, "'a/b'"),
        ("redis://localhost", {"streams": "cam"}, "list of ids"),
        ("redis://localhost", {"start": "yesterday"}, "'yesterday'"),
        ("redis://localhost", {"start": {"cam": "x"}}, "'x'"),
    ],
)
def test_wrong_use(url: str, options: dict[str, object], message: str) -> None:
    for function in (subscribe, asubscribe):
        with pytest.raises(UsageError, match=message) as error:
            function(url, **options)  # type: ignore[operator]
        assert "secret" not in str(error.value)


def test_refused(tmp_path: Path) -> None:
    with running_broker(tmp_path, options=("--requirepass", "right")) as broker:
        with pytest.raises(UsageError, match="refuses"):
            subscribe(f"redis://:wrong@127.0.0.1:{broker.port}", ["cam"])
        with broker.client(password="right") as client:
            client.set("streamseg:{cam}:results", "no stream")
        with pytest.raises(RunError, match="WRONGTYPE"):
            subscribe(f"redis://:right@127.0.0.1:{broker.port}", ["cam"])


def test_it_is_light() -> None:
    heavy = {"torch", "av", "cv2", "matplotlib", "pydantic"}
    code = f"import sys, streamseg.client; print(*{heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == ""
