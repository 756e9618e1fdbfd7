"""Subscribing with asyncio."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import redis
import redis.asyncio

from streamseg.client.reading import (
    BATCH,
    DISCOVER_EVERY,
    FIRST_PAUSE,
    KNOWN_STREAMS,
    LONGEST_PAUSE,
    Reader,
    Start,
    check_passing,
    client_options,
    results_key,
)
from streamseg.types import FrameResult

logger = logging.getLogger(__name__)


class AsyncSubscription(AsyncIterator[FrameResult]):
    """An endless asynchronous iterator over published results, see :class:`Subscription`."""

    def __init__(self, client: redis.asyncio.Redis, reader: Reader, timeout: float | None) -> None:
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

    async def aclose(self) -> None:
        """Disconnect."""
        await self._client.aclose()

    async def _read(self, block: float) -> None:
        if self._pause:
            await asyncio.sleep(min(self._pause, block))
        try:
            await self._locate()
            await self._xread(block)
        except redis.RedisError as error:
            check_passing(error)
            if not self._pause:
                logger.warning("Redis cannot be reached, trying on")
            self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
        else:
            self._pause = 0.0

    async def _locate(self) -> None:
        if self._reader.discovers:
            known: Any = await self._client.smembers(KNOWN_STREAMS)
            self._reader.learn(known)
        for stream in self._reader.unplaced():
            newest: Any = await self._client.xrevrange(results_key(stream), count=1)
            self._reader.place(stream, newest)
        self._reader.begun()

    async def _xread(self, block: float) -> None:
        milliseconds = max(1, int(1000 * block))  # 0 would block for ever
        if positions := self._reader.xread():
            answer: Any = await self._client.xread(positions, count=BATCH, block=milliseconds)  # type: ignore[arg-type]
            self._reader.take(answer)
        else:
            await asyncio.sleep(block)


def asubscribe(
    url: str, streams: Sequence[str] | None = None, *, start: Start = "now", timeout: float | None = None
) -> AsyncSubscription:
    """Iterate over frame results with ``async for``; arguments as for :func:`subscribe`.

    ``"now"`` is when the iteration begins: nothing is asked of the broker before.

    Raises:
        UsageError: URL, stream ids or start are wrong.
    """
    reader = Reader(streams, start)
    client = redis.asyncio.Redis.from_url(url, **client_options(url))
    return AsyncSubscription(client, reader, timeout)
