"""What a subscriber asks the broker, step by step, and when it waits or gives up.

Nothing here talks to the broker: a dialogue yields its next command, and the synchronous or asynchronous
subscription sends back the answer or throws in the error. So there is one loop for both.
"""

import logging
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import redis

from streamseg.errors import RunError, UsageError
from streamseg.redis.connection import ANSWER_TIMEOUT
from streamseg.redis.gaps import Gap
from streamseg.redis.trouble import Outage, reason, recovers, refuses, trouble
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
    reconnect: bool = False
    """Drop the connection before: the next one is made to wherever the broker's name leads to by then."""


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

    def next_item(self) -> FrameResult | Gap | None:
        """Hand out the next result, or where some are missing; None when more have to be read."""

    def end(self, *, handled: bool) -> Steps[None]:
        """The subscriber leaves; ``handled``: it was through with the last result."""


class Dialogue:
    """One subscriber's questions, over outages of the broker."""

    def __init__(
        self, reader: Reader, timeout: float | None, *, gaps: bool = False, broker: str = "Redis"
    ) -> None:
        """Set up.

        Args:
            reader: What is asked for.
            timeout: Seconds without a result after which there is no next one; None: never.
            gaps: Whether gaps are handed out like results; else they are logged.
            broker: Its name, for messages.
        """
        self.reader = reader
        self._timeout, self._gaps = timeout, gaps
        self._outage = Outage(broker)
        self._pause: float | None = None
        """Seconds to wait before the next attempt; None while the broker is there."""
        self._worked = False
        """Whether the broker has ever let us in."""

    def begin(self) -> Steps[None]:
        """Log in and find where "now" is; put off if the broker is down. Raises UsageError or RunError."""
        yield from self._attempt(self._log_in(), longest=LOOK_EVERY)

    def next_item(self) -> Steps[FrameResult | Gap | None]:
        """The next result or gap; None if there was none in time. Raises UsageError or RunError."""
        limit = None if self._timeout is None else time.monotonic() + self._timeout
        while True:
            item = self.reader.next_item()
            if isinstance(item, Gap) and not self._gaps:
                logger.warning("%s", item)
            elif item is not None:
                return item
            else:
                left = float("inf") if limit is None else limit - time.monotonic()
                if left <= 0:
                    return None
                yield from self._attempt(self.reader.read(min(left, LOOK_EVERY)), longest=left)

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
        if self._pause is not None:
            yield Wait(min(self._pause, longest), reconnect=True)
        try:
            yield from steps
        except redis.RedisError as error:
            self._check(error)
            self._pause = self._outage.failed(error)
        else:
            self._worked, self._pause = True, None
            self._outage.over()

    def _check(self, error: redis.RedisError) -> None:
        """Raise what will not get better by itself.

        Raises:
            UsageError: The broker refuses user, password, database or encryption, and always has.
            RunError: It refuses what we ask for.
        """
        if recovers(error, worked=self._worked):
            return
        if refuses(error):
            raise UsageError(f"{self._outage.broker} {trouble(error).what}: {reason(error)}") from None
        raise RunError(f"{self._outage.broker}: {reason(error)}") from None
