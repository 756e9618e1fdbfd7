"""A client that tries again until the broker is there: what publishes waits for it."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis

from streamseg.errors import OutputError, OutputGoneError, UsageError
from streamseg.redis.connection import broker_name, connect
from streamseg.redis.trouble import Outage, passes, reason, recovers, refuses, trouble

_Answer = TypeVar("_Answer")


class BrokerGoneError(OutputGoneError):
    """The broker was away for longer than the end of the run may wait."""


class RetryingClient:
    """A Redis client for one thread. :meth:`hurry` may be called in any."""

    def __init__(
        self,
        url: str,
        *,
        patience: float,
        password_file: str | None = None,
        connected: Callable[[Any], None] | None = None,
    ) -> None:
        """Prepare; connects to nothing yet. Raises UsageError if the URL or the file is not valid.

        ``patience``: seconds to wait for the broker once :meth:`hurry` was called. All else: see
        :func:`~streamseg.redis.connection.connect`.
        """
        self._client = connect(url, password_file=password_file, connected=connected)
        self.broker = broker_name(self._client)
        """Where it is, for messages."""
        self.outage = Outage(self.broker)
        self._patience = patience
        self._hurried_at = float("inf")
        self._changed = threading.Condition()

    def hurry(self, patience: float | None = None) -> None:
        """Bound the waits from now on, by ``patience`` seconds if given."""
        with self._changed:
            if patience is not None:
                self._patience = min(self._patience, patience)
            self._hurried_at = min(self._hurried_at, time.monotonic())
            self._changed.notify_all()

    def check(self) -> None:
        """Try to reach the broker once; warn if it is not there yet.

        Raises:
            UsageError: It refuses user, password, database or encryption, or is no broker of its own.
        """
        try:
            self._client.ping()
        except redis.RedisError as error:
            if refuses(error) or not passes(error):
                raise UsageError(f"{self.broker} {trouble(error).what}: {reason(error)}") from None
            self.outage.failed(error)

    def retry(self, action: Callable[[redis.Redis], _Answer], *, worked: bool = False) -> _Answer:
        """Run ``action`` until it works; it must bear being run twice.

        After each failure the connection is dropped: the next attempt logs in anew, wherever the broker's
        name then leads to. A primary that was demoted keeps its connections, and its name goes to another.

        Args:
            action: What to do.
            worked: Whether it has worked before: a right that is missing now was taken away, and may come
                back as a password may that is refused.

        Raises:
            BrokerGoneError: The broker was away for too long at the end of the run.
            OutputError: It refuses what we ask for.
        """
        while True:
            try:
                answer = action(self._client)
            except redis.RedisError as error:
                if not (refuses(error) or recovers(error, worked=worked)):
                    raise OutputError(f"{self.broker}: {reason(error)}") from None
                delay = self.outage.failed(error)
                self._client.connection_pool.disconnect()
                self._wait(delay, error)
            else:
                self.outage.over()
                return answer

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _wait(self, delay: float, error: redis.RedisError) -> None:
        """Wait ``delay`` seconds, less if our patience with the outage then ends."""
        until = time.monotonic() + delay
        with self._changed:
            while (now := time.monotonic()) < until:
                left = max(self.outage.since, self._hurried_at) + self._patience - now
                if left <= 0:
                    raise BrokerGoneError(f"{self.broker} {trouble(error)}") from None
                self._changed.wait(min(until - now, left))
