"""What a Redis URL may look like."""

import re
from urllib.parse import parse_qs, urlsplit

import redis

from streamseg.errors import UsageError

_FORM = "redis://HOST[:PORT][/DB], rediss:// for TLS, with USER:PASSWORD@ before HOST if need be"
_QUERY = re.compile(r"ssl_\w+|db|username|password|client_name|socket_(timeout|connect_timeout|keepalive)")
"""Options of redis-py that make sense here; it takes any other word as well, and fails when it connects."""


def check_redis_url(url: str) -> None:
    """Make sure, without connecting, that redis-py will understand a URL.

    Raises:
        UsageError: It will not, or would take something else for the database without a word.
    """
    if re.search(r"[\s\x00-\x1f]", url):
        raise UsageError(f"Redis URL: a space or control character is in it; write %20 or {_FORM}")
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise UsageError(f"Redis URL must begin with redis:// or rediss://; write {_FORM}")
    try:
        parts = urlsplit(url)
        unknown = [key for key in parse_qs(parts.query, keep_blank_values=True) if not _QUERY.fullmatch(key)]
        if not re.fullmatch(r"/?|/\d+", parts.path) and parts.scheme != "unix":
            raise UsageError(f"Redis URL {_shown(url)}: the database must be a number; write {_FORM}")
        if unknown:
            raise UsageError(f"Redis URL {_shown(url)}: unknown option {unknown[0]}; write {_FORM}")
        url.encode()
        (parts.hostname or "").encode("idna")  # socket does so and fails for empty and endless labels
        redis.ConnectionPool.from_url(url).make_connection()
    except (ValueError, TypeError, redis.RedisError, OSError):
        raise UsageError(f"Redis URL {_shown(url)} is not valid; write {_FORM}") from None


def _shown(url: str) -> str:
    """Hide whatever may be a password, in a URL too odd to be parsed."""
    return re.sub(r"(?<=://).*@", "***@", url).encode("ascii", "backslashreplace").decode()
