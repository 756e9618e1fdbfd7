"""A connection to Redis that outlives the broker's absence."""

import logging
import os
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamseg.errors import OutputError, UsageError, mask_password

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
_EXAMPLE = "redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS"


class BrokerGoneError(OutputError):
    """The broker stayed away longer than the end of the run may wait."""


class Broker:
    """A Redis client for one thread, with retries of its own.

    User and password come from the URL, else from the environment: ``REDIS_USERNAME`` and
    ``REDIS_PASSWORD``.
    """

    def __init__(self, url: str, *, patience: float = 10.0) -> None:
        """``patience``: seconds a retry may take once :meth:`hurry` was called. Raises UsageError."""
        self.client = _client(url)
        self.name = _name(self.client)
        self._patience = patience
        self._hurried = threading.Event()
        self._hurried_at = float("inf")

    def hurry(self) -> None:
        """Bound the waits from now on. Safe in any thread."""
        if not self._hurried.is_set():
            self._hurried_at = time.monotonic()
            self._hurried.set()

    def check(self) -> None:
        """Try to reach the broker once; one that is not there yet is only warned of.

        Raises:
            UsageError: It refuses user, password or database.
        """
        try:
            self.client.ping()
        except redis.RedisError as error:
            if not passing(error):
                raise UsageError(f"{self.name} refuses us: {error}") from None
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
        if not self._hurried.wait(pause):
            return
        left = max(since, self._hurried_at) + self._patience - time.monotonic()
        if left <= 0:
            raise BrokerGoneError(f"{self.name} cannot be reached ({reason(error)})") from None
        time.sleep(min(pause, left))


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


def _client(url: str) -> redis.Redis:
    path = re.match(r"rediss?://[^/]*(/[^?]*)?", url)
    if path is not None and path[1] and not re.fullmatch(r"/\d*", path[1]):
        # redis-py would take database 0 without a word
        raise UsageError(f"Redis URL {_shown(url)}: the database must be a number; write {_EXAMPLE}")
    try:
        return redis.Redis.from_url(
            url,
            username=os.environ.get("REDIS_USERNAME"),
            password=os.environ.get("REDIS_PASSWORD"),
            protocol=2,
            socket_timeout=_SOCKET_TIMEOUT,
            socket_connect_timeout=_SOCKET_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise UsageError(f"Redis URL {_shown(url)} is not valid; write {_EXAMPLE}") from None


def _shown(url: str) -> str:
    """Hide whatever may be a password, in a URL too odd to be parsed."""
    return re.sub(r"(?<=://).*@", "***@", url)


def _name(client: redis.Redis) -> str:
    kwargs = client.connection_pool.connection_kwargs
    where = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
    return f"Redis at {where}/{kwargs.get('db', 0)}"
