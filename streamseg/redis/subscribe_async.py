"""Subscribing with asyncio."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar, Unpack, overload

import redis
import redis.asyncio

from streamseg.redis.connection import aconnect, broker_name
from streamseg.redis.dialogue import READ_TIMEOUT, Command, Dialogue, Steps, Wait
from streamseg.redis.gaps import Gap
from streamseg.redis.groups import TAKEOVER_AFTER
from streamseg.redis.reader import Start
from streamseg.redis.subscribe import SubscriptionOptions, make_reader
from streamseg.types import FrameResult

_Value = TypeVar("_Value")
_Item = TypeVar("_Item", FrameResult, FrameResult | Gap)


@overload
def asubscribe(
    url: str,
    streams: Sequence[str] | None = None,
    *,
    gaps: Literal[False] = False,
    **options: Unpack[SubscriptionOptions],
) -> "AsyncSubscription[FrameResult]": ...


@overload
def asubscribe(
    url: str,
    streams: Sequence[str] | None = None,
    *,
    gaps: Literal[True],
    **options: Unpack[SubscriptionOptions],
) -> "AsyncSubscription[FrameResult | Gap]": ...


def asubscribe(
    url: str,
    streams: Sequence[str] | None = None,
    *,
    start: Start = "now",
    timeout: float | None = None,
    group: str | None = None,
    consumer: str | None = None,
    takeover_after: float = TAKEOVER_AFTER,
    gaps: bool = False,
) -> "AsyncSubscription[Any]":
    """Iterate over frame results with ``async for``; arguments as for :func:`subscribe`.

    ``"now"`` is when the iteration begins: nothing is asked of the broker before.

    Raises:
        UsageError: URL, stream ids, start, group or consumer are wrong.
    """
    reader = make_reader(streams, start, group, consumer, takeover_after)
    client = aconnect(url, timeout=READ_TIMEOUT)
    return AsyncSubscription(client, Dialogue(reader, timeout, gaps=gaps, broker=broker_name(client)))


class AsyncSubscription(AsyncIterator[_Item]):
    """An endless asynchronous iterator over published results, see :class:`Subscription`."""

    def __init__(self, client: redis.asyncio.Redis, dialogue: Dialogue) -> None:
        """See :func:`asubscribe`, which makes them."""
        self._client = client
        self._dialogue = dialogue

    @property
    def positions(self) -> Mapping[str, str]:
        """Id of the last entry seen, by stream."""
        return dict(self._dialogue.reader.positions)

    async def __anext__(self) -> _Item:
        item = await self._run(self._dialogue.next_item())
        if item is None:
            await self.aclose()
            raise StopAsyncIteration
        return item  # type: ignore[return-value]  # gaps only if they were asked for

    async def __aenter__(self) -> "AsyncSubscription[_Item]":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(handled=kind is None)

    async def aclose(self, *, handled: bool = True) -> None:
        """Disconnect.

        ``handled``: whether the last result is done with; else another subscriber of the group gets it.
        """
        await self._run(self._dialogue.end(handled=handled))
        await self._client.aclose()

    async def _run(self, steps: Steps[_Value]) -> _Value:
        try:
            step = next(steps)
            while True:
                try:
                    answer = await self._ask(step)
                except redis.RedisError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    async def _ask(self, step: Command | Wait) -> Any:
        if isinstance(step, Wait):
            if step.reconnect:
                await self._client.connection_pool.disconnect()
            return await asyncio.sleep(step.seconds)
        return await self._client.execute_command(*step)  # type: ignore[no-untyped-call]
