"""Subscribing in a plain loop."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import redis

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


class Subscription(Iterator[FrameResult]):
    """An endless iterator over published results; can be used in a ``with`` statement.

    Iterating raises UsageError if the broker refuses us and RunError if it refuses what we ask for.
    """

    def __init__(self, client: redis.Redis, reader: Reader, timeout: float | None) -> None:
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
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._client.close()

    def begin(self) -> None:
        """Log in and look up where "now" is; put off if the broker is down."""
        self._guarded(self._client.ping)
        if not self._pause:
            self._guarded(self._locate)

    def _read(self, block: float) -> None:
        if self._pause:
            time.sleep(min(self._pause, block))
        self._guarded(self._locate_and_read, block)

    def _guarded(self, step: Any, *args: float) -> None:
        try:
            step(*args)
        except redis.RedisError as error:
            check_passing(error)
            if not self._pause:
                logger.warning("Redis cannot be reached, trying on")
            self._pause = min(2 * self._pause or FIRST_PAUSE, LONGEST_PAUSE)
        else:
            self._pause = 0.0

    def _locate(self) -> None:
        if self._reader.discovers:
            known: Any = self._client.smembers(KNOWN_STREAMS)
            self._reader.learn(known)
        for stream in self._reader.unplaced():
            newest: Any = self._client.xrevrange(results_key(stream), count=1)
            self._reader.place(stream, newest)
        self._reader.begun()

    def _locate_and_read(self, block: float) -> None:
        self._locate()
        milliseconds = max(1, int(1000 * block))  # 0 would block for ever
        if positions := self._reader.xread():
            answer: Any = self._client.xread(positions, count=BATCH, block=milliseconds)  # type: ignore[arg-type]
            self._reader.take(answer)
        else:
            time.sleep(block)


def subscribe(
    url: str, streams: Sequence[str] | None = None, *, start: Start = "now", timeout: float | None = None
) -> Subscription:
    """Iterate over frame results as they are published.

    Args:
        url: ``redis://`` or ``rediss://``; user and password may come from the environment instead,
            ``REDIS_USERNAME`` and ``REDIS_PASSWORD``.
        streams: Ids of the streams; None is all there are, those included that appear later.
        start: ``"now"``: what is published after this call. ``"start"``: all that the broker still
            has. An entry id, or a mapping of one for each stream: what comes after it.
        timeout: End after so many seconds without a result; None never ends.

    Raises:
        UsageError: URL, stream ids, start, user or password are wrong.
    """
    reader = Reader(streams, start)
    client = redis.Redis.from_url(url, **client_options(url))
    subscription = Subscription(client, reader, timeout)
    subscription.begin()
    return subscription
