"""How clients connect to the broker, which errors pass by themselves, and how long to wait meanwhile."""

import os
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamseg.errors import mask_password
from streamseg.redis.url import check_redis_url

ANSWER_TIMEOUT = 5.0
"""Seconds: a broker that has not answered by then counts as down."""
_CONNECT_TIMEOUT = 5.0
"""Seconds."""
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
"""Seconds between two attempts."""

_PASSING_TYPES = (
    redis.ConnectionError,  # LOADING, too
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,  # a replica, before it is promoted
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,  # MASTERDOWN, too
    redis.exceptions.TryAgainError,
)
_PASSING_WORDS = ("BUSY ", "MISCONF ", "NOREPLICAS ", "UNBLOCKED ")
"""How other replies of a broker begin that cannot do its work for a while."""
_REFUSALS = (
    redis.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.AuthenticationWrongNumberOfArgsError,
)


def connect(
    url: str, *, timeout: float = ANSWER_TIMEOUT, connected: Callable[[Any], None] | None = None
) -> redis.Redis:
    """A client that connects with its first command and tries nothing twice.

    Args:
        url: ``redis://`` or ``rediss://``. User and password come from the environment if it has none:
            ``REDIS_USERNAME`` and ``REDIS_PASSWORD``.
        timeout: Seconds that an answer may take.
        connected: Is given every new connection of redis-py before it is used; may raise
            redis.RedisError.

    Raises:
        UsageError: The URL is not valid.
    """

    def greet(connection: Any) -> None:
        connection.on_connect()  # logs in
        if connected is not None:
            connected(connection)

    return redis.Redis.from_url(url, redis_connect_func=greet, **_options(url, timeout))


def aconnect(url: str, *, timeout: float = ANSWER_TIMEOUT) -> redis.asyncio.Redis:
    """The same for asyncio. Raises UsageError."""
    return redis.asyncio.Redis.from_url(url, **_options(url, timeout))


def _options(url: str, timeout: float) -> dict[str, Any]:
    check_redis_url(url)
    return {
        "username": os.environ.get("REDIS_USERNAME"),  # what the URL says wins
        "password": os.environ.get("REDIS_PASSWORD"),
        "protocol": 2,
        "socket_timeout": timeout,
        "socket_connect_timeout": _CONNECT_TIMEOUT,
        "retry": Retry(NoBackoff(), 0),
    }


def broker_name(client: redis.Redis) -> str:
    """Host, port and database, for messages."""
    kwargs = client.connection_pool.connection_kwargs
    where = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
    return f"Redis at {where}/{kwargs.get('db', 0)}"


def delays() -> Iterator[float]:
    """Seconds to wait before each further attempt: 0.1, 0.2, 0.4 and so on up to 5, without an end.

    redis-py's ExponentialBackoff fails at the 1024th attempt, after an hour and a half: its power of two
    does not fit into a float.
    """
    delay = _FIRST_DELAY
    while True:
        yield delay
        delay = min(2 * delay, _LONGEST_DELAY)


def passes(error: redis.RedisError) -> bool:
    """Whether the same request may work later, without anybody doing something about it."""
    if isinstance(error, _REFUSALS):
        return False  # redis-py counts them as connection errors
    return isinstance(error, _PASSING_TYPES) or str(error).startswith(_PASSING_WORDS)


def refuses(error: redis.RedisError) -> bool:
    """Whether the broker does not let us in: user, password, database or encryption are wrong.

    A certificate may be renewed, so that :func:`passes` may hold as well.
    """
    return isinstance(error, _REFUSALS) or "DB index" in str(error) or _refuses_tls(error)


def reason(error: redis.RedisError) -> str:
    """The error's text for the user, on one line."""
    return mask_password(" ".join(str(error).split())) or type(error).__name__


def _refuses_tls(error: BaseException | None) -> bool:
    """Whether client and broker cannot agree on encryption: a wrong certificate, or none on one side.

    Other errors of TLS come from connections that are cut.
    """
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
            return True
        error = error.__cause__ or error.__context__
    return False
