"""Subscribers that share the work, with crashes and restarts in between."""

import asyncio
import json
import subprocess
import sys
import threading
from typing import Any

import pytest

from streamseg.client import Subscription, asubscribe, subscribe
from streamseg.errors import UsageError
from tests.redis.test_subscribe import publish
from tests.support.broker import RunningBroker

KEY = "streamseg:{cam}:results"


def member(broker: RunningBroker, **options: Any) -> Subscription:
    return subscribe(broker.url, **{"streams": ["cam"], "group": "g", "timeout": 1.5} | options)


def frames(subscription: Subscription, most: int | None = None) -> list[int]:
    seen = []
    for result in subscription:
        seen.append(result.frame)
        if len(seen) == most:
            break
    return seen


def pending(broker: RunningBroker, key: str = KEY) -> int:
    with broker.client() as client:
        answer: Any = client.xpending(key, "g")
    return int(answer["pending"])


def test_each_result_goes_to_one_of_them(broker: RunningBroker) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": []}
    both_have_one = threading.Barrier(2)

    def work(name: str) -> None:
        with member(broker, start="start") as subscription:
            for result in subscription:
                seen[name].append(result.frame)
                if len(seen[name]) == 1:
                    both_have_one.wait(20)

    publish(broker, *range(40))
    threads = [threading.Thread(target=work, args=(name,)) for name in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen["a"] + seen["b"]) == list(range(40))
    assert seen["a"] == sorted(seen["a"])
    assert pending(broker) == 0


def test_a_group_goes_on_where_it_stood(broker: RunningBroker) -> None:
    with member(broker) as subscription:
        publish(broker, 0, 1, 2, 3)
        assert frames(subscription, most=2) == [0, 1]
    publish(broker, 4)
    with member(broker) as subscription:
        assert frames(subscription) == [2, 3, 4]
    with broker.client() as client:
        assert client.xinfo_consumers(KEY, "g") == [], "made-up names do not pile up"


def test_two_groups_get_everything_each(broker: RunningBroker) -> None:
    publish(broker, 0, 1)
    for group in ("g", "h"):
        with member(broker, group=group, start="start") as subscription:
            assert frames(subscription) == [0, 1]


def test_a_killed_subscriber_is_replaced(broker: RunningBroker) -> None:
    """Killed while it works on its second result: the first is done, the second goes to the other one."""
    publish(broker, *range(6))
    program = f"""
import time
from streamseg.client import subscribe
for result in subscribe({broker.url!r}, ["cam"], group="g", start="start"):
    print(result.frame, flush=True)
    if result.frame == 1:
        time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert [int(process.stdout.readline()) for _ in range(2)] == [0, 1]
        process.kill()
    with member(broker, takeover_after=0.3, timeout=2) as subscription:
        assert sorted(frames(subscription)) == [1, 2, 3, 4, 5]
    assert pending(broker) == 0


def test_what_is_being_worked_on_is_not_taken_over(broker: RunningBroker) -> None:
    publish(broker, 0, 1)
    with member(broker, start="start") as busy, member(broker) as other:
        assert next(busy).frame == 0
        assert frames(other) == [1]
        assert frames(busy) == []


def test_an_error_leaves_the_result_to_the_next(broker: RunningBroker) -> None:
    publish(broker, 0, 1)

    def work() -> None:
        with member(broker, start="start") as subscription:
            for result in subscription:
                1 / (result.frame - 1)

    with pytest.raises(ZeroDivisionError):
        work()
    with member(broker) as subscription:
        assert frames(subscription) == [1]


def test_a_consumer_comes_back_under_its_name(broker: RunningBroker) -> None:
    publish(broker, 0, 1, 2)
    crashed = member(broker, start="start", consumer="worker-1")
    assert next(crashed).frame == 0
    with member(broker, consumer="worker-1", takeover_after=60) as subscription:
        assert frames(subscription) == [0, 1, 2]
    crashed._client.close()


@pytest.mark.parametrize("all_streams", [False, True])
def test_several_streams(broker: RunningBroker, all_streams: bool) -> None:
    publish(broker, 0, 1, stream="a")
    with member(broker, streams=None if all_streams else ["a", "b"], start="start") as subscription:
        assert [(r.stream, r.frame) for r in (next(subscription), next(subscription))] == [("a", 0), ("a", 1)]
        publish(broker, 0, 1, stream="b")
        assert [(r.stream, r.frame) for r in subscription] == [("b", 0), ("b", 1)]
    assert pending(broker, "streamseg:{a}:results") == pending(broker, "streamseg:{b}:results") == 0


def test_now_and_ids(broker: RunningBroker) -> None:
    ids = publish(broker, 0, 1, 2)
    with member(broker) as subscription:
        publish(broker, 3)
        assert frames(subscription) == [3]
    with member(broker, group="h", start=ids[1]) as subscription:
        assert frames(subscription) == [2, 3]


def test_a_restart_of_the_broker(broker: RunningBroker) -> None:
    seen: list[int] = []
    with member(broker, timeout=20) as subscription:
        publish(broker, 0, 1, 2)
        for result in subscription:
            seen.append(result.frame)
            if result.frame == 2:
                broker.kill()
                broker.start()
                publish(broker, *range(3, 8))
            if result.frame == 7:
                break
    assert seen == list(range(8))
    assert pending(broker) == 0


def test_a_killed_subscriber_and_a_restart_at_once(broker: RunningBroker) -> None:
    """All are handled; none twice but what the dead one had in its hands."""
    publish(broker, *range(4))
    dead = member(broker, start="start")
    assert [next(dead).frame, next(dead).frame] == [0, 1]
    dead._client.close()
    broker.kill()
    broker.start()
    publish(broker, *range(4, 9))
    with member(broker, takeover_after=0.2, timeout=3) as subscription:
        assert sorted(frames(subscription)) == list(range(1, 9))


def test_a_broker_that_comes_back_empty(broker: RunningBroker) -> None:
    with member(broker, timeout=10) as subscription:
        publish(broker, 0)
        assert next(subscription).frame == 0
        with broker.client() as client:
            client.flushall()
        publish(broker, 1, 2)
        assert frames(subscription, most=2) == [1, 2]


def test_trimmed_entries_are_passed_over(broker: RunningBroker) -> None:
    publish(broker, 0, 1, 2)
    crashed = member(broker, start="start", consumer="c")
    assert next(crashed).frame == 0
    with broker.client() as client:
        client.xtrim(KEY, maxlen=1, approximate=False)
    with member(broker, consumer="c") as subscription:
        assert frames(subscription) == [2]
    with member(broker, takeover_after=0.1) as subscription:
        assert frames(subscription) == []
    assert pending(broker) == 0
    crashed._client.close()


def test_async(broker: RunningBroker) -> None:
    async def main() -> list[int]:
        async with asubscribe(broker.url, ["cam"], group="g", start="start", timeout=1.5) as subscription:
            return [result.frame async for result in subscription]

    publish(broker, *range(5))
    assert asyncio.run(main()) == list(range(5))
    assert pending(broker) == 0


def test_async_error_leaves_the_result(broker: RunningBroker) -> None:
    async def main() -> None:
        async with asubscribe(broker.url, ["cam"], group="g", start="start") as subscription:
            async for result in subscription:
                1 / result.frame

    publish(broker, 0)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(main())
    with member(broker) as subscription:
        assert frames(subscription) == [0]


def test_the_command_line(broker: RunningBroker) -> None:
    publish(broker, *range(10))
    command = [sys.executable, "-m", "streamseg", "subscribe", broker.url, "cam", "--from", "start"]
    options = ["--group", "g", "--timeout", "2"]
    both = [
        subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(json.loads(line)["frame"] for text, _ in outputs for line in text.splitlines()) == list(
        range(10)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": ""}, "group ''"),
        ({"group": "a b"}, "group 'a b'"),
        ({"group": "g", "consumer": "x" * 200}, "consumer 'xxx"),
        ({"consumer": "c"}, "name the group"),
        ({"group": "g", "takeover_after": 0}, "takeover_after is 0"),
        ({"group": "g", "start": "yesterday"}, "'yesterday'"),
        ({"group": "g", "streams": ["a/b"]}, "'a/b'"),
    ],
)
def test_wrong_use(options: dict[str, Any], message: str) -> None:
    for function in (subscribe, asubscribe):
        with pytest.raises(UsageError, match=message):
            function("redis://localhost", **options)  # type: ignore[operator]
