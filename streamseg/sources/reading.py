"""One source from its first opening to its end: what state it is in, and when to try again."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from streamseg.errors import SourceError
from streamseg.sources.messages import Opened, Refused
from streamseg.sources.source import Source
from streamseg.sources.timing import Retry
from streamseg.types import BUSY, EmitEvent, FramesDropped, StreamChanged, StreamInfo, StreamState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Counted:
    """Where the numbering of a stream stands, should it be read again later."""

    epoch: int = -1
    next_index: int = 0


class Reading:
    """Tells, through ``emit``, of every change of state; decides about new attempts."""

    def __init__(
        self,
        source: Source,
        *,
        emit: EmitEvent,
        retry: Retry,
        after: Counted | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``after`` continues the numbering of an earlier reading; ``clock`` is in seconds."""
        after = after or Counted()
        self.source = source
        self.state: StreamState | None = None
        self.epoch, self.next_index = after.epoch, after.next_index
        self.retry_at = math.inf
        """When the next attempt is due, on ``clock``; infinite while one is under way."""
        self.info: StreamInfo | None = None
        self._emit, self._retry, self._clock = emit, retry, clock
        self._error: SourceError | None = None
        self._failed_attempts = 0
        """Since the stream was live last."""
        self._failures = 0
        """Losses and failed attempts since the stream was healthy last: what the back-off goes by."""
        self._refusals = 0
        """Of the user, since the stream was live last."""
        self._live_since = math.inf

    @property
    def counted(self) -> Counted:
        """Where the numbering stands."""
        return Counted(self.epoch, self.next_index)

    @property
    def over(self) -> bool:
        """Whether the last event is out."""
        return self.state in {StreamState.ENDED, StreamState.FAILED}

    def begin(self) -> None:
        """Announce the stream, before its first attempt."""
        self._change(StreamState.CONNECTING)

    def opened(self, opened: Opened) -> None:
        """The first picture is there."""
        self.epoch += 1
        self.info = opened.describe(self.source, self.epoch)
        if self._failed_attempts:
            logger.warning("%s: %s", self.source.id, "live again" if self.epoch else "connected")
        else:
            logger.info("%s: reading %s", self.source.id, self.source.shown)
        self._failed_attempts = self._refusals = 0
        self._live_since = self._clock()
        self._emit(self.info)
        self._change(StreamState.LIVE)

    def count_to(self, next_index: int) -> None:
        """Frames below this number were decoded; those of a live source that did not come are dropped."""
        missing = next_index - self.next_index
        self.next_index = max(self.next_index, next_index)
        if missing > 0 and self.source.live:
            self._emit(FramesDropped(self.source.id, BUSY, missing))

    def stalled(self) -> None:
        """A live source that was live gives no frame any more."""
        self._fail(f"no frame for {self.source.read_timeout:g} s", state=StreamState.STALLED, refused=None)

    def lost(self, error: str | None, refused: Refused | None = None) -> None:
        """An attempt has failed, or what was being read has come to its end."""
        if self.source.live:
            self._fail(error or "the stream ended", state=StreamState.CONNECTING, refused=refused)
        else:
            self.end(None if error is None else SourceError(f"{self.source.shown}: {error}"))

    def replace(self, source: Source) -> None:
        """Go on with other settings, at once."""
        self.source = source
        self._failures = self._failed_attempts = self._refusals = 0
        self.info, self.retry_at = None, math.inf
        self._change(StreamState.CONNECTING)

    def end(self, error: SourceError | None = None) -> None:
        """Say that no more will come, because of ``error`` if there is one."""
        self.info, self.retry_at = None, math.inf
        if error is None:
            self._change(StreamState.ENDED)
            return
        logger.info("%s: %s", self.source.id, error)
        self._error = error
        self._change(StreamState.FAILED)

    def _fail(self, error: str, *, state: StreamState, refused: Refused | None) -> None:
        now = self._clock()
        was_live, self.info = self.info is not None, None
        if was_live and now - self._live_since >= self._retry.healthy:
            self._failures = 0
        self._failures += 1
        self._failed_attempts += 1
        limit = self.source.reconnect_attempts
        if limit is not None and self._failed_attempts > limit:
            attempts = "" if limit == 0 else f" (given up after {limit} more attempts)"
            self.end(SourceError(f"{self._what_failed(was_live)}: {error}{attempts}"))
            return
        delay = self._delay(refused)
        self.retry_at = now + delay
        self._error = SourceError(f"{self._what_failed(was_live)}: {error}")
        self._change(state)
        # The 1st, 2nd, 4th, 8th … failure in a row: whoever looks sees why, and the log does not fill up.
        loud = self._failed_attempts & (self._failed_attempts - 1) == 0
        level = logging.WARNING if loud else logging.INFO
        logger.log(level, "%s: %s; next attempt in %.1f s", self.source.id, self._error, delay)

    def _delay(self, refused: Refused | None) -> float:
        self._refusals += refused == "user"
        if refused == "user":
            return self._retry.delay(self._refusals, random.random(), refused=True)
        # A restreamer knows no path while its own camera is away: what was there may be back soon.
        if refused == "path" and self.epoch < 0:
            return self._retry.delay(1, random.random(), refused=True)
        return self._retry.delay(self._failures, random.random())

    def _what_failed(self, was_live: bool) -> str:
        return f"lost {self.source.shown}" if was_live else f"cannot connect to {self.source.shown}"

    def _change(self, state: StreamState) -> None:
        self.state = state
        self._emit(StreamChanged(self.source.id, state, self._error, max(0, self.epoch)))
