"""The live page of streams that other processes publish: from Redis into a Hub."""

import asyncio
import logging
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import redis

from streamseg.overlay.alone import backdrop
from streamseg.redis.connection import aconnect
from streamseg.redis.gaps import Gap
from streamseg.redis.keys import STREAMS_KEY, overlays_key, status_key
from streamseg.redis.subscribe_async import asubscribe
from streamseg.redis.trouble import delays, reason, recovers
from streamseg.results.frame_result import instances_of
from streamseg.types import FrameResult, StreamState
from streamseg.web.hub import Hub, Picture
from streamseg.web.thumbnail import painted_jpeg

logger = logging.getLogger(__name__)

_NUMBERS = ("width", "height", "dropped", "reconnects", "damaged", "lost_packets")
"""Of a status."""
_STATUS_SECONDS = 1.0
_OVERLAY_SECONDS = 0.08
_RECENT = 64
"""Results kept per stream: an overlay is published right behind its result, but read later."""


class RedisFeed:
    """Keeps a hub up to date with what is published to a Redis; survives its restarts."""

    def __init__(self, hub: Hub, url: str) -> None:
        """Connects to nothing yet. Raises UsageError if the URL is not valid."""
        self._hub, self._url = hub, url
        self._client = aconnect(url)
        self._recent: dict[str, deque[FrameResult]] = defaultdict(lambda: deque(maxlen=_RECENT))
        self._missed: Counter[str] = Counter()
        """Results that were trimmed before we read them, by stream."""
        self._shown: dict[str, bytes] = {}
        """Entry id of the last overlay, by stream."""

    async def run(self) -> None:
        """Feed the hub until cancelled. Raises UsageError if the broker refuses us."""
        results = asubscribe(self._url, gaps=True)
        parts = [
            asyncio.ensure_future(self._follow(results)),
            asyncio.ensure_future(self._repeat(self._statuses, _STATUS_SECONDS)),
            asyncio.ensure_future(self._repeat(self._pictures, _OVERLAY_SECONDS)),
        ]
        try:
            await asyncio.gather(*parts)
        finally:
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            await results.aclose()
            await self._client.aclose()

    async def _follow(self, results: AsyncIterator[FrameResult | Gap]) -> None:
        async for result in results:
            if isinstance(result, Gap):
                logger.warning("%s", result)
                self._missed[result.stream] += result.lost or 0
                self._hub.report(result.stream, missed=self._missed[result.stream])
                continue
            self._recent[result.stream].append(result)
            self._hub.result(result)

    async def _repeat(self, step: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Take the step again and again, ``seconds`` apart; less often while it fails."""
        pauses: Iterator[float] | None = None
        while True:
            try:
                await step()
            except (redis.RedisError, ValueError) as error:  # a ValueError: what is stored is not ours
                if pauses is None:
                    pauses = delays()
                    if isinstance(error, ValueError):
                        logger.warning("Redis: a stream holds what streamseg did not write: %s", error)
                    elif not recovers(error, worked=True):  # of all else, the subscription tells
                        logger.warning("Redis: %s, trying on", reason(error))
                if isinstance(error, redis.RedisError):
                    await self._client.connection_pool.disconnect(inuse_connections=False)
                await asyncio.sleep(next(pauses))
            else:
                pauses = None
                await asyncio.sleep(seconds)

    async def _statuses(self) -> None:
        known: Any = await self._client.smembers(STREAMS_KEY)
        for stream in sorted(name.decode() for name in known):
            found: Any = await self._client.hgetall(status_key(stream))
            fields = {key.decode(): value.decode() for key, value in found.items()}
            # The status lives for seconds: without one, the process that wrote it is gone.
            shown = {k: fields[k] for k in ("state", "source", "error", "outputs") if k in fields}
            numbers = {k: int(fields[k]) for k in _NUMBERS if k in fields}
            self._hub.report(stream, **{"state": StreamState.STALLED.value, **shown, **numbers})

    async def _pictures(self) -> None:
        for stream in self._hub.watched & self._recent.keys():
            recent = self._recent[stream]
            found: Any = await self._client.xrevrange(overlays_key(stream), count=1)
            if found and found[0][0] != self._shown.get(stream):
                self._shown[stream] = found[0][0]
                number = int(found[0][1][b"frame"])
                result = next((r for r in reversed(recent) if r.frame == number), recent[-1])
                self._hub.show(Picture(result, found[0][1][b"jpeg"]))
            elif not found and (width := self._hub.wanted_width(stream)) is not None:
                jpeg = await asyncio.to_thread(_without_picture, recent[-1], width)
                self._hub.show(Picture(recent[-1], jpeg))


def _without_picture(result: FrameResult, width: int) -> bytes:
    """The masks alone, on grey."""
    grey = backdrop(result.height, result.width)
    return painted_jpeg(grey, instances_of(result), width=width)
