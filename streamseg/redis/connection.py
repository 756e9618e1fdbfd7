"""How clients connect to the broker."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from streamseg.redis.credentials import make_credentials
from streamseg.redis.trouble import WrongServerError
from streamseg.redis.url import check_redis_url

ANSWER_TIMEOUT = 5.0
"""Seconds: a broker that has not answered by then counts as down."""
_CONNECT_TIMEOUT = 5.0
"""Seconds."""
_HELLO = ("HELLO", 2)
"""Every user may ask so, whatever else is forbidden. The answer tells what kind of server that is."""


def connect(
    url: str,
    *,
    timeout: float = ANSWER_TIMEOUT,
    password_file: str | None = None,
    connected: Callable[[Any], None] | None = None,
) -> redis.Redis:
    """A client that connects with its first command and tries nothing twice.

    Every new connection looks up the host's name and reads user and password anew.

    Args:
        url: ``redis://`` or ``rediss://``. User and password come from the environment if it has none:
            ``REDIS_USERNAME`` and ``REDIS_PASSWORD``, or ``REDIS_PASSWORD_FILE``.
        timeout: Seconds that an answer may take.
        password_file: A file with the password.
        connected: Is given every new connection of redis-py before it is used; may raise
            redis.RedisError.

    Raises:
        UsageError: The URL is not valid, or the file cannot be read.
    """

    def greet(connection: Any) -> None:
        connection.on_connect()  # logs in
        connection.send_command(*_HELLO, check_health=False)
        with suppress(redis.ResponseError):  # a proxy need not know it
            _check_kind(connection.read_response())
        if connected is not None:
            connected(connection)

    check_redis_url(url)
    parsed = redis.connection.parse_url(url)  # type: ignore[no-untyped-call]
    options = _options(parsed, timeout, password_file)
    return redis.Redis.from_pool(redis.ConnectionPool(redis_connect_func=greet, **options))


def aconnect(url: str, *, timeout: float = ANSWER_TIMEOUT) -> redis.asyncio.Redis:
    """The same for asyncio. Raises UsageError."""

    async def greet(connection: Any) -> None:
        await connection.on_connect()
        await connection.send_command(*_HELLO, check_health=False)
        with suppress(redis.ResponseError):
            _check_kind(await connection.read_response())

    check_redis_url(url)
    options = _options(redis.asyncio.connection.parse_url(url), timeout, None)
    return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(redis_connect_func=greet, **options))


def broker_name(client: redis.Redis | redis.asyncio.Redis) -> str:
    """Host, port and database, for messages."""
    kwargs = client.connection_pool.connection_kwargs
    where = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"
    return f"Redis at {where}/{kwargs.get('db', 0)}"


def _options(url: Mapping[str, Any], timeout: float, password_file: str | None) -> dict[str, Any]:
    given = {key: value for key, value in url.items() if key not in ("username", "password")}
    return {
        "credential_provider": make_credentials(url, password_file),
        "protocol": 2,
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, _CONNECT_TIMEOUT),
        "retry": Retry(NoBackoff(), 0),
        **given,
    }


def _check_kind(greeting: list[Any]) -> None:
    """Raise WrongServerError unless it is a server of its own: keys of other slots lie elsewhere."""
    mode = dict(zip(greeting[::2], greeting[1::2], strict=False)).get(b"mode")
    if mode == b"cluster":
        raise WrongServerError(
            "it is a node of a Redis Cluster; use a server with cluster-enabled no, and replicas if need be"
        )
    if mode == b"sentinel":
        raise WrongServerError("it is a Sentinel; give the primary's name or that of a proxy before it")
