"""Results that were trimmed before they were read: every kind of subscriber learns it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest

from streamseg.client import Gap, Subscription, asubscribe, subscribe
from streamseg.redis.group_watch import GroupWatch
from streamseg.types import FrameResult
from streamseg.web.feed import RedisFeed
from streamseg.web.hub import Hub
from tests.redis.test_subscribe import publish
from tests.support.broker import RunningBroker, wait_for

KEY = "streamseg:{cam}:results"


def counts(broker: RunningBroker) -> bool:
    """Redis 6.2 does not count what it has trimmed."""
    with broker.client() as client:
        return not str(client.info("server")["redis_version"]).startswith("6.")  # type: ignore[index]


def trim(broker: RunningBroker, length: int) -> None:
    with broker.client() as client:
        client.xtrim(KEY, maxlen=length, approximate=False)


def items(subscription: Subscription[Any], most: int) -> list[object]:
    return [i if isinstance(i, Gap) else i.frame for i in (next(subscription) for _ in range(most))]


@pytest.mark.parametrize("start", ["now", "start", "id"])
def test_a_slow_subscriber_learns_how_much_it_lost(any_broker: RunningBroker, start: str) -> None:
    ids = publish(any_broker, 0, 1)
    first = {"now": [], "start": [0, 1], "id": [1]}[start]
    place = ids[0] if start == "id" else start
    with subscribe(any_broker.url, ["cam"], start=place, timeout=5, gaps=True) as subscription:
        assert items(subscription, len(first)) == first
        publish(any_broker, 2, 3)
        assert items(subscription, 2) == [2, 3]
        for begin in (4, 104):  # twice
            publish(any_broker, *range(begin, begin + 100))
            trim(any_broker, 10)
            lost = 90 if counts(any_broker) else None
            expected = [Gap("cam", lost), *range(begin + 90, begin + 100)]
            assert items(subscription, 11) == expected


def test_what_is_trimmed_behind_a_full_answer_is_counted_in_the_end(any_broker: RunningBroker) -> None:
    with subscribe(any_broker.url, ["cam"], timeout=5, gaps=True) as subscription:
        publish(any_broker, *range(200))
        assert items(subscription, 64) == list(range(64))
        trim(any_broker, 100)
        lost = 36 if counts(any_broker) else None
        assert items(subscription, 101) == [Gap("cam", lost), *range(100, 200)]


def test_frames_that_a_live_stream_left_out_are_no_gap(any_broker: RunningBroker) -> None:
    """Nor what was trimmed after it was read."""
    with subscribe(any_broker.url, ["cam"], timeout=5, gaps=True) as subscription:
        for begin in range(0, 400, 100):
            publish(any_broker, *range(begin, begin + 100, 7))
            assert items(subscription, 15) == list(range(begin, begin + 100, 7))
            if counts(any_broker):
                trim(any_broker, 0)


def test_a_group_learns_it_once(any_broker: RunningBroker) -> None:
    options: dict[str, Any] = {"group": "g", "timeout": 1.2, "gaps": True}
    with (
        subscribe(any_broker.url, ["cam"], **options) as one,
        subscribe(any_broker.url, ["cam"], **options) as other,
    ):
        publish(any_broker, 0, 1)
        assert items(one, 1) + items(other, 1) == [0, 1]
        publish(any_broker, *range(2, 102))
        trim(any_broker, 10)
        seen = [i if isinstance(i, Gap) else i.frame for s in (one, other) for i in s]
    assert [i for i in seen if not isinstance(i, Gap)] == list(range(92, 102))
    assert [i for i in seen if isinstance(i, Gap)] == [Gap("cam", 90 if counts(any_broker) else None)]


def test_the_publisher_counts_what_each_group_missed(any_broker: RunningBroker) -> None:
    with any_broker.client() as client:
        for group in ("quick", "slow"):
            client.xgroup_create(KEY, group, "0", mkstream=True)
        watch = GroupWatch("Redis")

        def look() -> dict[tuple[str, str], int]:
            watch.look(client, ["cam", "other"])
            return dict(watch.missed)

        def read(group: str) -> None:
            while client.xreadgroup(group, "a", {KEY: ">"}, count=1000, noack=True):
                pass

        publish(any_broker, *range(50))
        for group in ("quick", "slow"):
            client.xreadgroup(group, "a", {KEY: ">"}, count=10, noack=True)
        assert look() == {}
        for begin in (50, 100):
            read("quick")
            publish(any_broker, *range(begin, begin + 50))
            trim(any_broker, 50)
            look()
        assert watch.missed == ({("cam", "slow"): 90} if counts(any_broker) else {})
        read("slow")
        look()
        trim(any_broker, 0)
        assert look() == ({("cam", "slow"): 90, ("cam", "quick"): 50} if counts(any_broker) else {})
        for group in ("quick", "slow"):
            read(group)
        publish(any_broker, *range(150, 180))
        look()
        trim(any_broker, 10)
        assert look() == ({("cam", "slow"): 110, ("cam", "quick"): 70} if counts(any_broker) else {})
        client.acl_setuser("me", enabled=True, nopass=True, keys=["*"], commands=["+xlen"])
        client.execute_command("AUTH", "me", "")
        watch.look(client, ["cam"])
        assert watch.missed == look()


def test_what_a_crashed_subscriber_had_is_gone(any_broker: RunningBroker) -> None:
    publish(any_broker, 0, 1, 2)
    crashed = subscribe(any_broker.url, ["cam"], start="start", group="g")
    assert next(crashed).frame == 0
    trim(any_broker, 1)
    options: dict[str, Any] = {"group": "g", "timeout": 2, "takeover_after": 0.1, "gaps": True}
    with subscribe(any_broker.url, ["cam"], **options) as subscription:
        found = list(subscription)
    assert [i.frame for i in found if isinstance(i, FrameResult)] == [2]
    lost = [i.lost for i in found if isinstance(i, Gap)]
    assert sorted(lost, key=str) == ([1, 1] if counts(any_broker) else [1, None]), "that, and one nobody had"
    with any_broker.client() as client:
        assert client.xpending(KEY, "g")["pending"] == 0  # type: ignore[index]
    crashed._client.close()


def test_who_does_not_ask_finds_it_in_the_log(
    broker: RunningBroker, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> list[int]:
        subscription = asubscribe(broker.url, ["cam"], start="start", timeout=0.5)
        seen = []
        async for result in subscription:
            seen.append(result.frame)
            if result.frame == 0:
                publish(broker, *range(1, 101))
                trim(broker, 10)
        return seen

    publish(broker, 0)
    assert asyncio.run(main()) == [0, *range(91, 101)]
    assert "stream cam: 90 results were trimmed before they were read" in caplog.text


def test_without_the_right_to_ask_it_goes_unnoticed(broker: RunningBroker) -> None:
    with broker.client() as client:
        commands = ["+xread", "+xrevrange", "+smembers", "+ping"]
        client.acl_setuser("sub", enabled=True, passwords=["+pw"], keys=["streamseg:*"], commands=commands)
    publish(broker, 0)
    with subscribe(broker.url.replace("//", "//sub:pw@"), timeout=5, gaps=True) as subscription:
        publish(broker, *range(1, 101))
        trim(broker, 10)
        assert items(subscription, 10) == list(range(91, 101))


def test_the_command_line(broker: RunningBroker) -> None:
    publish(broker, *range(70))
    command = [sys.executable, "-m", "streamseg", "subscribe", broker.url, "cam", "--from", "start"]
    with subprocess.Popen(
        [*command, "--timeout", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()  # it blocks in its output soon: nobody reads that
        publish(broker, *range(70, 4000))
        trim(broker, 10)
        assert program.stderr is not None
        lines, errors = program.stdout.read(), program.stderr.read()
        assert program.wait(20) == 0
    seen = len(lines.splitlines()) + 1
    assert errors == f"stream cam: {4000 - seen} results were trimmed before they were read\n"


def test_the_page_counts_it(broker: RunningBroker) -> None:
    hub = Hub()

    async def main() -> None:
        feed = asyncio.ensure_future(RedisFeed(hub, broker.url).run())
        await asyncio.to_thread(wait_for, lambda: [s["id"] for s in hub.status()] == ["cam"])
        publish(broker, *range(1, 101))  # while its loop waits for us
        trim(broker, 10)
        await asyncio.to_thread(
            wait_for, lambda: hub.status()[0].get("missed", 0) >= 89
        )  # frame 1 may be on its way
        feed.cancel()
        await asyncio.gather(feed, return_exceptions=True)

    publish(broker, 0)
    asyncio.run(main())
