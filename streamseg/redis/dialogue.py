"""What a subscriber asks the broker, step by step, and when it waits or gives up.

Nothing here talks to the broker: a dialogue yields its next command, and the synchronous or asynchronous
subscription sends back the answer or throws in the error. So there is one loop for both.
"""

import logging
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import redis

from streamseg.errors import RunError, UsageError
from streamseg.redis.connection import ANSWER_TIMEOUT, delays, passes, reason, refuses
from streamseg.types import FrameResult

logger = logging.getLogger(__name__)

LOOK_EVERY = 1.0
"""Seconds one XREAD may block: how often new streams are looked for."""
READ_TIMEOUT = LOOK_EVERY + 2 * ANSWER_TIMEOUT
"""Seconds that an answer may take: XREAD blocks for the first part."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to ask for so many seconds."""

    seconds: float


_Value = TypeVar("_Value")
Command = tuple[str | int, ...]
Steps = Generator[Command | Wait, Any, _Value]
"""Yields commands for the broker and is sent their answers; errors of the broker are raised inside."""


class Reader(Protocol):
    """Which results a subscriber gets, and how it asks for them."""

    positions: dict[str, str]
    """Id of the last entry handed out, by stream."""

    def begin(self) -> Steps[None]:
        """Find the streams, and where "now" is in each."""

    def read(self, block: float) -> Steps[None]:
        """Get more results; the broker may take ``block`` seconds."""

    def next_result(self) -> FrameResult | None:
        """Hand out the next result; None when more have to be read."""

    def end(self, *, handled: bool) -> Steps[None]:
        """The subscriber leaves; ``handled``: it was through with the last result."""


class Dialogue:
    """One subscriber's questions, over outages of the broker."""

    def __init__(self, reader: Reader, timeout: float | None) -> None:
        """``timeout``: seconds without a result after which there is no next one; None: never."""
        self.reader = reader
        self._timeout = timeout
        self._pauses: Iterator[float] | None = None
        """Seconds to wait before each further attempt; None while the broker is there."""

    def begin(self) -> Steps[None]:
        """Log in and find where "now" is; put off if the broker is down. Raises UsageError or RunError."""
        yield from self._attempt(self._log_in(), longest=LOOK_EVERY)

    def next_result(self) -> Steps[FrameResult | None]:
        """The next result; None if there was none in time. Raises UsageError or RunError."""
        limit = None if self._timeout is None else time.monotonic() + self._timeout
        while (result := self.reader.next_result()) is None:
            left = float("inf") if limit is None else limit - time.monotonic()
            if left <= 0:
                return None
            yield from self._attempt(self.reader.read(min(left, LOOK_EVERY)), longest=left)
        return result

    def end(self, *, handled: bool) -> Steps[None]:
        """Leave; a broker that is down is told nothing."""
        try:
            yield from self.reader.end(handled=handled)
        except redis.RedisError as error:
            logger.debug("leaving without a word: %s", reason(error))

    def _log_in(self) -> Steps[None]:
        yield ("PING",)
        yield from self.reader.begin()

    def _attempt(self, steps: Steps[None], *, longest: float) -> Steps[None]:
        """Wait if the last attempt failed, for ``longest`` seconds at most; then go through ``steps``."""
        if self._pauses is not None:
            yield Wait(min(next(self._pauses), longest))
        try:
            yield from steps
        except redis.RedisError as error:
            _check_passing(error)
            if self._pauses is None:
                logger.warning("Redis cannot be reached (%s), trying on", reason(error))
                self._pauses = delays()
        else:
            self._pauses = None


def _check_passing(error: redis.RedisError) -> None:
    """Raise what will not get better by itself.

    Raises:
        UsageError: The broker refuses user, password, database or encryption.
        RunError: It refuses what we ask for.
    """
    if refuses(error):
        raise UsageError(f"Redis refuses us: {reason(error)}") from None
    if not passes(error):
        raise RunError(f"Redis: {reason(error)}") from None
