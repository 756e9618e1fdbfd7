"""Subscribing with asyncio."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import redis
import redis.asyncio

from streamseg.redis.groups import TAKEOVER_AFTER, make_reader
from streamseg.redis.reading import (
    DISCOVER_EVERY,
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Command,
    Reading,
    Start,
    Steps,
    Wait,
    check_passing,
    client_options,
)
from streamseg.types import FrameResult

logger = logging.getLogger(__name__)


class AsyncSubscription(AsyncIterator[FrameResult]):
    """An endless asynchronous iterator over published results, see :class:`Subscription`."""

    def __init__(self, client: redis.asyncio.Redis, reader: Reading, timeout: float | None) -> None:
        self._client = client
        self._reader = reader
        self._timeout = timeout
        self._pause = 0.0

    @property
    def positions(self) -> Mapping[str, str]:
        """Id of the last entry seen, by stream."""
        return dict(self._reader.positions)

    async def __anext__(self) -> FrameResult:
        limit = None if self._timeout is None else time.monotonic() + self._timeout
        while (result := self._reader.next_result()) is None:
            left = DISCOVER_EVERY if limit is None else limit - time.monotonic()
            if left <= 0:
                await self.aclose()
                raise StopAsyncIteration
            await self._read(min(left, DISCOVER_EVERY))
        return result

    async def __aenter__(self) -> "AsyncSubscription":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(handled=kind is None)

    async def aclose(self, *, handled: bool = True) -> None:
        """Disconnect. In a group, the last result is done with if it was ``handled``, else another's task."""
        with contextlib.suppress(redis.RedisError):  # a broker that is gone hears it from nobody
            await self._run(self._reader.end(handled=handled))
        await self._client.aclose()

    async def _read(self, block: float) -> None:
        if self._pause:
            await asyncio.sleep(min(self._pause, block))
        try:
            await self._run(self._reader.read(block))
        except redis.RedisError as error:
            check_passing(error)
            if not self._pause:
                logger.warning("Redis cannot be reached, trying on")
            self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
            self._reader.interrupted()
        else:
            self._pause = 0.0

    async def _run(self, steps: Steps) -> None:
        with contextlib.suppress(StopIteration):
            step = next(steps)
            while True:
                try:
                    answer = await self._ask(step)
                except redis.ResponseError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)

    async def _ask(self, step: Command | Wait) -> Any:
        if isinstance(step, Wait):
            return await asyncio.sleep(step.seconds)
        return await self._client.execute_command(*step)  # type: ignore[no-untyped-call]


def asubscribe(
    url: str,
    streams: Sequence[str] | None = None,
    *,
    start: Start = "now",
    timeout: float | None = None,
    group: str | None = None,
    consumer: str | None = None,
    takeover_after: float = TAKEOVER_AFTER,
) -> AsyncSubscription:
    """Iterate over frame results with ``async for``; arguments as for :func:`subscribe`.

    ``"now"`` is when the iteration begins: nothing is asked of the broker before.

    Raises:
        UsageError: URL, stream ids, start, group or consumer are wrong.
    """
    reader = make_reader(streams, start, group, consumer, takeover_after)
    client = redis.asyncio.Redis.from_url(url, **client_options(url))
    return AsyncSubscription(client, reader, timeout)
