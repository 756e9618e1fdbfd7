"""Subscribing in a plain loop."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import redis

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


class Subscription(Iterator[FrameResult]):
    """An endless iterator over published results; can be used in a ``with`` statement.

    Iterating raises UsageError if the broker refuses us and RunError if it refuses what we ask for.
    """

    def __init__(self, client: redis.Redis, reader: Reading, timeout: float | None) -> None:
        self._client = client
        self._reader = reader
        self._timeout = timeout
        self._pause = 0.0
        """Seconds to wait before the next attempt; 0 while the broker is there."""

    @property
    def positions(self) -> Mapping[str, str]:
        """Id of the last entry seen, by stream: give it as ``start`` to go on there another time."""
        return dict(self._reader.positions)

    def __next__(self) -> FrameResult:
        limit = None if self._timeout is None else time.monotonic() + self._timeout
        while (result := self._reader.next_result()) is None:
            left = DISCOVER_EVERY if limit is None else limit - time.monotonic()
            if left <= 0:
                raise StopIteration
            self._read(min(left, DISCOVER_EVERY))
        return result

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(handled=kind is None)

    def close(self, *, handled: bool = True) -> None:
        """Disconnect. In a group, the last result is done with if it was ``handled``, else another's task."""
        with contextlib.suppress(redis.RedisError):  # a broker that is gone hears it from nobody
            self._run(self._reader.end(handled=handled))
        self._client.close()

    def begin(self) -> None:
        """Log in and look up where "now" is; put off if the broker is down."""
        self._guarded(_ping())
        if not self._pause:
            self._guarded(self._reader.begin())

    def _read(self, block: float) -> None:
        if self._pause:
            time.sleep(min(self._pause, block))
        self._guarded(self._reader.read(block))

    def _guarded(self, steps: Steps) -> None:
        try:
            self._run(steps)
        except redis.RedisError as error:
            check_passing(error)
            if not self._pause:
                logger.warning("Redis cannot be reached, trying on")
            self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
            self._reader.interrupted()
        else:
            self._pause = 0.0

    def _run(self, steps: Steps) -> None:
        with contextlib.suppress(StopIteration):
            step = next(steps)
            while True:
                try:
                    answer = self._ask(step)
                except redis.ResponseError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)

    def _ask(self, step: Command | Wait) -> Any:
        if isinstance(step, Wait):
            return time.sleep(step.seconds)
        return self._client.execute_command(*step)  # type: ignore[no-untyped-call]


def _ping() -> Steps:
    yield ("PING",)


def subscribe(
    url: str,
    streams: Sequence[str] | None = None,
    *,
    start: Start = "now",
    timeout: float | None = None,
    group: str | None = None,
    consumer: str | None = None,
    takeover_after: float = TAKEOVER_AFTER,
) -> Subscription:
    """Iterate over frame results as they are published.

    Args:
        url: ``redis://`` or ``rediss://``; user and password may come from the environment instead,
            ``REDIS_USERNAME`` and ``REDIS_PASSWORD``.
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

    Raises:
        UsageError: URL, stream ids, start, group, consumer, user or password are wrong.
    """
    reader = make_reader(streams, start, group, consumer, takeover_after)
    client = redis.Redis.from_url(url, **client_options(url))
    subscription = Subscription(client, reader, timeout)
    subscription.begin()
    return subscription
