"""Errors of a broker: which pass by themselves, which somebody has to put right, how they are worded."""

import logging
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import NamedTuple

import redis

from streamseg.errors import mask_password

logger = logging.getLogger(__name__)

_FIRST_DELAY, _LONGEST_DELAY = 0.1, 5.0
"""Seconds between two attempts."""

_PASSING_TYPES = (
    redis.ConnectionError,  # LOADING, too
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,  # MASTERDOWN, too
    redis.exceptions.TryAgainError,
)
_CODE = re.compile(r"[A-Z]{3,}(?= )")
"""First word of an answer that redis-py has no type for, and leaves as it is."""
_ABOUT_THE_REQUEST = frozenset(
    ["ERR", "WRONGTYPE", "BUSYGROUP", "BUSYKEY", "NOTBUSY", "NOPROTO", "NOPERM", "NOSCRIPT", "EXECABORT"]
)
"""Codes that name something wrong with what was asked. All others name a state of the broker, which changes:
MISCONF, BUSY, NOREPLICAS, UNBLOCKED, NOGROUP, IOERR and those that are yet to be invented."""
_FULL = "max number of clients"
"""With or without "+ cluster connections"; the one ERR that names a state."""
_REFUSALS = (
    redis.AuthenticationError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.AuthenticationWrongNumberOfArgsError,
)
_REFUSING_WORDS = ("DB index", "DENIED ")
"""No such database; protected mode."""


class PasswordFileError(redis.AuthenticationError):
    """The file with the password cannot be read."""


class WrongServerError(redis.AuthenticationError):
    """Somebody else answers: a node of a cluster or a sentinel."""


def passes(error: redis.RedisError) -> bool:
    """Whether the same request may work later although nobody changes it or the configuration."""
    if isinstance(error, _REFUSALS):
        return False  # redis-py counts them as connection errors
    if isinstance(error, _PASSING_TYPES):
        return True
    if type(error) is not redis.ResponseError:
        return False
    if (getattr(error, "status_code", None) or _code(error)) == "ERR" or not _code(error):
        return str(error).startswith(_FULL)
    return not refuses(error) and _code(error) not in _ABOUT_THE_REQUEST


def refuses(error: redis.RedisError) -> bool:
    """Whether the broker does not let us in: user, password, database or encryption are wrong.

    A certificate may be renewed, so that :func:`passes` may hold as well.
    """
    return isinstance(error, _REFUSALS) or str(error).startswith(_REFUSING_WORDS) or _refuses_tls(error)


def recovers(error: redis.RedisError, *, worked: bool) -> bool:
    """Whether to try again.

    ``worked``: whether the same was allowed before. Then a password was changed, a right taken away or a
    certificate has expired, and somebody is about to put that right.
    """
    if refuses(error) or isinstance(error, redis.exceptions.NoPermissionError):
        return worked
    return passes(error)


def reason(error: redis.RedisError) -> str:
    """The error's text for the user, on one line."""
    return mask_password(" ".join(str(error).split())) or type(error).__name__


def delays() -> Iterator[float]:
    """Seconds to wait before each further attempt: 0.1, 0.2, 0.4 and so on up to 5, without an end.

    redis-py's ExponentialBackoff fails at the 1024th attempt, after an hour and a half: its power of two
    does not fit into a float.
    """
    delay = _FIRST_DELAY
    while True:
        yield delay
        delay = min(2 * delay, _LONGEST_DELAY)


class Trouble(NamedTuple):
    """Why a broker does not do what it is asked."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} ({self.why})"


def trouble(error: redis.RedisError) -> Trouble:
    """An error in words that continue "Redis at host:port/0 ..."."""
    return Trouble(_what(error), reason(error))


class Outage:
    """What is told of one broker while it is in trouble, and the waits between attempts meanwhile."""

    def __init__(self, broker: str, *, level: int = logging.WARNING) -> None:
        """``broker``: its name; ``level``: of what is logged."""
        self.broker = broker
        self.trouble: Trouble | None = None
        """Why it does nothing for us; None while it does."""
        self.since = 0.0
        """When the trouble began, on the monotonic clock."""
        self._level = level
        self._delays = delays()

    def failed(self, error: redis.RedisError) -> float:
        """An attempt failed; returns the seconds to wait before the next. Another trouble is told anew."""
        before, self.trouble = self.trouble, trouble(error)
        if before is None:
            self.since, self._delays = time.monotonic(), delays()
        if before is None or before.what != self.trouble.what:
            logger.log(self._level, "%s %s, trying on", self.broker, self.trouble)
        return next(self._delays)

    def over(self) -> None:
        """An attempt worked."""
        if self.trouble is not None:
            self.trouble = None
            logger.log(self._level, "%s is back after %.1f s", self.broker, time.monotonic() - self.since)


def _what(error: redis.RedisError) -> str:
    for applies, what in (
        (isinstance(error, PasswordFileError), "cannot be logged in to"),
        (isinstance(error, WrongServerError), "is no broker for streamseg"),
        (refuses(error), "refuses us"),
        (isinstance(error, redis.exceptions.NoPermissionError), "does not grant us a right"),
        (_is_unknown_name(error), "cannot be found: its name does not resolve"),
        (isinstance(error, redis.BusyLoadingError) or str(error).startswith(_FULL), "cannot do its work"),
        (isinstance(error, redis.ConnectionError | redis.TimeoutError), "cannot be reached"),
    ):
        if applies:
            return what
    return "cannot do its work"


def _is_unknown_name(error: redis.RedisError) -> bool:
    return any(isinstance(link, socket.gaierror) for link in _links(error))


def _code(error: redis.RedisError) -> str:
    found = _CODE.match(str(error))
    return found[0] if found else ""


def _links(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _refuses_tls(error: redis.RedisError) -> bool:
    """Whether client and broker cannot agree on encryption: a wrong certificate, or none on one side.

    Other errors of TLS come from connections that are cut.
    """
    return any(
        isinstance(link, ssl.SSLCertVerificationError)
        or (isinstance(link, ssl.SSLError) and link.reason == "WRONG_VERSION_NUMBER")
        for link in _links(error)
    )
