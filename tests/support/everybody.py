"""One publisher and every kind of subscriber at one broker, to see who survives what."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from streamseg.client import Subscription, asubscribe, subscribe
from streamseg.redis.publish import RedisOutput
from streamseg.web.feed import RedisFeed
from streamseg.web.hub import Hub
from tests.support.broker import wait_for
from tests.support.clips import frame, info, instances, result_of


class _CountingHub(Hub):
    def __init__(self, seen: list[int]) -> None:
        super().__init__()
        self._seen = seen

    def result(self, result: Any) -> None:
        super().result(result)
        self._seen.append(result.frame)


class Everybody:
    """All of them; each keeps the frames that it has seen."""

    def __init__(self, url: str) -> None:
        self.output = RedisOutput(url)
        self.output.check()
        self._writer = self.output.open(info(live=True))
        self._next = 0
        self._publishing: list[threading.Thread] = []
        self.errors: list[BaseException] = []
        self.seen: dict[str, list[int]] = {name: [] for name in ("plain", "async", "group", "view")}
        self._plain, self._group = subscribe(url, ["cam"]), subscribe(url, ["cam"], group="g")
        self._loop = asyncio.new_event_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(action,), daemon=True)
            for action in (
                lambda: self._follow(self._plain, self.seen["plain"]),
                lambda: self._follow(self._group, self.seen["group"]),
                lambda: self._loop.run_until_complete(self._run_async(url)),
            )
        ]
        for thread in self._threads:
            thread.start()

    def publish(self, count: int) -> None:
        """So many more results, in a thread: it waits while the broker is in trouble."""
        indexes = range(self._next, self._next + count)
        self._next += count
        before = self._publishing[-1:]

        def write() -> None:
            for thread in before:
                thread.join()
            for i in indexes:
                self._writer.write(result_of(frame(i), instances(boxes=[(5, 5, 20, 20)])), None, None)

        self._publishing.append(threading.Thread(target=self._guarded, args=(write,), daemon=True))
        self._publishing[-1].start()

    def wait(self, *, seconds: float = 20.0) -> None:
        """Until each of them has seen everything, once and in order."""

        def done() -> bool:
            newest = [seen[-1:] for seen in self.seen.values()]
            return bool(self.errors) or newest == [[self._next - 1]] * len(newest)

        try:
            wait_for(done, seconds=seconds)
        except TimeoutError:
            raise AssertionError({name: len(seen) for name, seen in self.seen.items()}) from None
        assert self.errors == []
        first = {name: 0 for name in self.seen} | {"view": self.seen["view"][0]}  # it came when it came
        assert self.seen == {name: list(range(first[name], self._next)) for name in self.seen}

    def close(self) -> None:
        self._ended.set()
        self.output.hurry(0.0)
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])
        for thread in (*self._threads, *self._publishing):
            thread.join(10)
        self.output.shutdown()
        self._plain.close()
        self._group.close()
        if not self._loop.is_running():  # else its thread was not through in time
            self._loop.close()

    def _follow(self, subscription: Subscription[Any], seen: list[int]) -> None:
        subscription._dialogue._timeout = 0.2  # to look whether the test is over
        while not self._ended.is_set():
            seen.extend(result.frame for result in subscription)

    async def _run_async(self, url: str) -> None:
        async def follow() -> None:
            async with asubscribe(url, ["cam"], start="start") as results:
                async for result in results:
                    self.seen["async"].append(result.frame)

        feed = RedisFeed(_CountingHub(self.seen["view"]), url)
        self._tasks = [asyncio.ensure_future(follow()), asyncio.ensure_future(feed.run())]
        for error in await asyncio.gather(*self._tasks, return_exceptions=True):
            if not isinstance(error, asyncio.CancelledError | type(None)):
                raise error

    def _guarded(self, action: Callable[[], object]) -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001  the test looks at it
            if not self._ended.is_set():
                self.errors.append(error)


@contextlib.contextmanager
def everybody(url: str) -> Iterator[Everybody]:
    all_ = Everybody(url)
    try:
        while not all_.seen["view"]:
            all_.publish(1)
            time.sleep(0.05)
        all_.wait()
        yield all_
    finally:
        all_.close()
