"""Subscribing in a plain loop."""

import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypedDict, TypeVar, Unpack, overload

import redis

from streamseg.errors import UsageError
from streamseg.redis.connection import broker_name, connect
from streamseg.redis.dialogue import READ_TIMEOUT, Command, Dialogue, Reader, Steps, Wait
from streamseg.redis.gaps import Gap
from streamseg.redis.groups import TAKEOVER_AFTER, GroupReader
from streamseg.redis.reader import PlainReader, Start
from streamseg.types import FrameResult

_Value = TypeVar("_Value")
_Item = TypeVar("_Item", FrameResult, FrameResult | Gap)


class SubscriptionOptions(TypedDict, total=False):
    """Keywords of a subscription that do not change what it hands out."""

    start: Start
    timeout: float | None
    group: str | None
    consumer: str | None
    takeover_after: float


@overload
def subscribe(
    url: str,
    streams: Sequence[str] | None = None,
    *,
    gaps: Literal[False] = False,
    **options: Unpack[SubscriptionOptions],
) -> "Subscription[FrameResult]": ...


@overload
def subscribe(
    url: str,
    streams: Sequence[str] | None = None,
    *,
    gaps: Literal[True],
    **options: Unpack[SubscriptionOptions],
) -> "Subscription[FrameResult | Gap]": ...


def subscribe(
    url: str,
    streams: Sequence[str] | None = None,
    *,
    start: Start = "now",
    timeout: float | None = None,
    group: str | None = None,
    consumer: str | None = None,
    takeover_after: float = TAKEOVER_AFTER,
    gaps: bool = False,
) -> "Subscription[Any]":
    """Iterate over frame results as they are published.

    Args:
        url: ``redis://`` or ``rediss://``; user and password may come from the environment instead,
            ``REDIS_USERNAME`` and ``REDIS_PASSWORD`` or ``REDIS_PASSWORD_FILE``, which are read again
            with every connection.
        streams: Ids of the streams; None is all there are, those included that appear later.
        start: ``"now"``: what is published after this call. ``"start"``: all that the broker still
            has. An entry id, or a mapping of one for each stream: what comes after it.
        timeout: End after so many seconds without a result; None never ends.
        group: Share the work with all subscribers of that group: each result goes to one of them, and is
            acknowledged when that one asks for the next. A group goes on where it stands, ``start`` counts
            for streams that are new to it. None: all results come here.
        consumer: Name in the group; one that comes back under its name gets first what it had not
            acknowledged. None makes one up.
        takeover_after: Seconds without an acknowledgement after which the others of the group take over
            what a subscriber was given: longer than handling one result ever takes.
        gaps: Hand out a :class:`Gap` where results were trimmed before they were read. Else each gap is
            logged as a warning.

    Raises:
        UsageError: URL, stream ids, start, group, consumer, user or password are wrong.
        RunError: The broker refuses what we ask for.
    """
    reader = make_reader(streams, start, group, consumer, takeover_after)
    client = connect(url, timeout=READ_TIMEOUT)
    dialogue = Dialogue(reader, timeout, gaps=gaps, broker=broker_name(client))
    subscription: Subscription[Any] = Subscription(client, dialogue)
    subscription.begin()
    return subscription


def make_reader(
    streams: Sequence[str] | None,
    start: Start,
    group: str | None,
    consumer: str | None,
    takeover_after: float,
) -> Reader:
    """The reader for a subscription; without a group it gets all results. Raises UsageError."""
    if group is not None:
        return GroupReader(streams, start, group=group, consumer=consumer, takeover_after=takeover_after)
    if consumer is not None:
        raise UsageError(f"consumer {consumer!r} is a name in a group: name the group, too")
    return PlainReader(streams, start)


class Subscription(Iterator[_Item]):
    """An endless iterator over published results; can be used in a ``with`` statement.

    Iterating raises UsageError if the broker refuses us, and RunError if it refuses what we ask for, unless
    it did as we asked before: then that is waited for like any outage.
    """

    def __init__(self, client: redis.Redis, dialogue: Dialogue) -> None:
        """See :func:`subscribe`, which makes them."""
        self._client = client
        self._dialogue = dialogue

    @property
    def positions(self) -> Mapping[str, str]:
        """Id of the last entry seen, by stream: give it as ``start`` to go on there another time."""
        return dict(self._dialogue.reader.positions)

    def begin(self) -> None:
        """Log in and look up where "now" is; put off if the broker is down."""
        self._run(self._dialogue.begin())

    def __next__(self) -> _Item:
        item = self._run(self._dialogue.next_item())
        if item is None:
            raise StopIteration
        return item  # type: ignore[return-value]  # gaps only if they were asked for

    def __enter__(self) -> "Subscription[_Item]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(handled=kind is None)

    def close(self, *, handled: bool = True) -> None:
        """Disconnect.

        ``handled``: whether the last result is done with; else another subscriber of the group gets it.
        """
        self._run(self._dialogue.end(handled=handled))
        self._client.close()

    def _run(self, steps: Steps[_Value]) -> _Value:
        try:
            step = next(steps)
            while True:
                try:
                    answer = self._ask(step)
                except redis.RedisError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def _ask(self, step: Command | Wait) -> Any:
        if isinstance(step, Wait):
            if step.reconnect:
                self._client.connection_pool.disconnect()
            return time.sleep(step.seconds)
        return self._client.execute_command(*step)  # type: ignore[no-untyped-call]
