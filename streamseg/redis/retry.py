"""A client that tries again until the broker is there: what publishes waits for it."""

from collections.abc import Callable
from typing import Any, TypeVar

import redis

from streamseg.errors import OutputError, OutputGoneError, UsageError
from streamseg.redis.connection import broker_name, connect
from streamseg.redis.trouble import Outage, passes, reason, recovers, refuses, trouble
from streamseg.waiting import BoundedWait

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
        self._wait = BoundedWait(patience)

    def hurry(self, patience: float | None = None) -> None:
        """Bound the waits from now on, by ``patience`` seconds if given."""
        self._wait.hurry(patience)

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
                if not self._wait.pause(delay, since=self.outage.since):
                    raise BrokerGoneError(f"{self.broker} {trouble(error)}") from None
            else:
                self.outage.over()
                return answer

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
