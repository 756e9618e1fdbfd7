"""A connection to Redis that outlives the broker's absence."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis

from streamseg.errors import OutputError, OutputGoneError, UsageError, mask_password
from streamseg.redis.url import check_redis_url, connection_options, refuses_tls

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds between two attempts
_SOCKET_TIMEOUT = 5.0  # seconds; a broker that hangs counts as down
_PASSING = ("MISCONF", "LOADING", "BUSY", "NOREPLICAS", "UNBLOCKED")
"""Error replies of a broker that is ill for a while, beside those redis-py has classes for."""
_PASSING_TYPES = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)


class BrokerGoneError(OutputGoneError):
    """The broker stayed away longer than the end of the run may wait."""


class Broker:
    """A Redis client for one thread, with retries of its own.

    User and password come from the URL, else from the environment: ``REDIS_USERNAME`` and
    ``REDIS_PASSWORD``.
    """

    def __init__(
        self, url: str, *, patience: float, connected: Callable[[Any], None] = lambda _: None
    ) -> None:
        """Prepare; connects to nothing yet.

        ``patience``: seconds a retry may take once :meth:`hurry` was called. ``connected`` is given
        every new connection of redis-py before it is used, and may raise redis.RedisError. Raises
        UsageError if the URL is not valid.
        """
        self.client = _client(url, connected)
        self.name = _name(self.client)
        self._patience = patience
        self._hurried_at = float("inf")
        self._changed = threading.Condition()

    def hurry(self, patience: float | None = None) -> None:
        """Bound the waits from now on, by ``patience`` seconds if given. Safe in any thread."""
        with self._changed:
            if patience is not None:
                self._patience = min(self._patience, patience)
            self._hurried_at = min(self._hurried_at, time.monotonic())
            self._changed.notify_all()

    def check(self) -> None:
        """Try to reach the broker once; one that is not there yet is only warned of.

        Raises:
            UsageError: It refuses user, password, database or encryption.
        """
        try:
            self.client.ping()
        except redis.RedisError as error:
            if not passing(error) or refuses_tls(error):
                raise UsageError(f"{self.name} refuses us: {reason(error)}") from None
            logger.warning("%s cannot be reached yet (%s), trying on", self.name, reason(error))

    def retry(self, action: Callable[[redis.Redis], _Answer]) -> _Answer:
        """Run ``action`` until it works; it must bear being run twice.

        Raises:
            BrokerGoneError: The broker was away for too long at the end of the run.
            OutputError: It refuses what we ask for.
        """
        since: float | None = None
        pause = _FIRST_PAUSE
        while True:
            try:
                answer = action(self.client)
            except redis.RedisError as error:
                if not passing(error):
                    raise OutputError(f"{self.name}: {error}") from None
                if since is None:
                    since = time.monotonic()
                    logger.warning("%s cannot be reached (%s), trying on", self.name, reason(error))
                self._pause(pause, since, error)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                if since is not None:
                    logger.warning("%s is back after %.1f s", self.name, time.monotonic() - since)
                return answer

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def _pause(self, pause: float, since: float, error: redis.RedisError) -> None:
        until = time.monotonic() + pause
        with self._changed:
            while (now := time.monotonic()) < until:
                left = max(since, self._hurried_at) + self._patience - now
                if left <= 0:
                    raise BrokerGoneError(f"{self.name} cannot be reached ({reason(error)})") from None
                self._changed.wait(min(until - now, left))


def passing(error: redis.RedisError) -> bool:
    """Whether the same request may work later."""
    if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError):
        return False  # redis-py counts them as connection errors
    if isinstance(error, _PASSING_TYPES):
        return True
    return str(error).startswith(_PASSING)


def reason(error: redis.RedisError) -> str:
    """The error's text for the user, on one line."""
    return mask_password(" ".join(str(error).split())) or type(error).__name__


def _client(url: str, connected: Callable[[Any], None]) -> redis.Redis:
    def greet(connection: Any) -> None:
        connection.on_connect()  # logs in
        connected(connection)

    check_redis_url(url)
    options = connection_options(socket_timeout=_SOCKET_TIMEOUT, connect_timeout=_SOCKET_TIMEOUT)
    return redis.Redis.from_url(url, redis_connect_func=greet, **options)


def _name(client: redis.Redis) -> str:
    kwargs = client.connection_pool.connection_kwargs
    where = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
    return f"Redis at {where}/{kwargs.get('db', 0)}"
