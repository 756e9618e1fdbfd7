"""A client that tries again until the broker is there: what publishes waits for it."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis

from streamseg.errors import OutputError, OutputGoneError, UsageError
from streamseg.redis.connection import broker_name, connect, delays, passes, reason, refuses

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")


class BrokerGoneError(OutputGoneError):
    """The broker was away for longer than the end of the run may wait."""


class RetryingClient:
    """A Redis client for one thread. :meth:`hurry` may be called in any."""

    def __init__(self, url: str, *, patience: float, connected: Callable[[Any], None] | None = None) -> None:
        """Prepare; connects to nothing yet. Raises UsageError if the URL is not valid.

        ``patience``: seconds to wait for the broker once :meth:`hurry` was called. ``connected``: see
        :func:`~streamseg.redis.connection.connect`.
        """
        self._client = connect(url, connected=connected)
        self.broker = broker_name(self._client)
        """Where it is, for messages."""
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
            UsageError: It refuses user, password, database or encryption.
        """
        try:
            self._client.ping()
        except redis.RedisError as error:
            if refuses(error) or not passes(error):
                raise UsageError(f"{self.broker} refuses us: {reason(error)}") from None
            logger.warning("%s cannot be reached yet (%s), trying on", self.broker, reason(error))

    def retry(self, action: Callable[[redis.Redis], _Answer]) -> _Answer:
        """Run ``action`` until it works; it must bear being run twice.

        Raises:
            BrokerGoneError: The broker was away for too long at the end of the run.
            OutputError: It refuses what we ask for.
        """
        since: float | None = None
        pauses = delays()
        while True:
            try:
                answer = action(self._client)
            except redis.RedisError as error:
                if not passes(error):
                    raise OutputError(f"{self.broker}: {reason(error)}") from None
                if since is None:
                    since = time.monotonic()
                    logger.warning("%s cannot be reached (%s), trying on", self.broker, reason(error))
                self._wait(next(pauses), since, error)
            else:
                if since is not None:
                    logger.warning("%s is back after %.1f s", self.broker, time.monotonic() - since)
                return answer

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _wait(self, delay: float, since: float, error: redis.RedisError) -> None:
        """Wait ``delay`` seconds, less if our patience with an outage ``since`` then ends."""
        until = time.monotonic() + delay
        with self._changed:
            while (now := time.monotonic()) < until:
                left = max(since, self._hurried_at) + self._patience - now
                if left <= 0:
                    raise BrokerGoneError(f"{self.broker} cannot be reached ({reason(error)})") from None
                self._changed.wait(min(until - now, left))
