"""One stream in the parent, from its first opening to its end: state, numbering, and what is due when."""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from streamseg.errors import SourceError
from streamseg.sources.messages import Damaged, Opened, Refused
from streamseg.sources.source import Source
from streamseg.sources.timing import Backoff, Timing
from streamseg.types import (
    BUSY,
    DAMAGED,
    RATE,
    EmitEvent,
    FramesDamaged,
    FramesDropped,
    StreamChanged,
    StreamInfo,
    StreamState,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Numbering:
    """How far the epochs and frames of a stream id are counted, should the id be read again later."""

    epoch: int = -1
    next_index: int = 0


class StreamConnection:
    """Emits every change of a stream's state and decides what follows a failure.

    A stream ends once, by :meth:`end`: called here when a recording is read or cannot be read on and when
    a camera's new attempts are used up, and from outside when somebody removes or stops the stream.
    """

    def __init__(
        self,
        source: Source,
        *,
        emit: EmitEvent,
        backoff: Backoff,
        timing: Timing | None = None,
        after: Numbering | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``after`` is where an earlier stream of this id stopped; ``clock`` is in seconds.

        Epochs go on from there, so that no frame of the two streams has the same epoch and number. A camera
        goes on counting frames as well; the numbers of a recording are those of its file.
        """
        self._after = after or Numbering()
        self.source = source
        self.state: StreamState | None = None
        self.epoch = max(self._after.epoch, _before_first(source))
        self.next_index = 0 if source.recorded else self._after.next_index
        self.retry_at = math.inf
        """When the next attempt is due, on ``clock``; infinite while one is under way."""
        self.info: StreamInfo | None = None
        """What is open now."""
        self._emit, self._backoff, self._clock = emit, backoff, clock
        self._timing = timing or Timing()
        self._error: SourceError | None = None
        self._failed_attempts = 0
        """Since the stream was live last."""
        self._failures = 0
        """Losses and failed attempts since the stream was healthy last: what the back-off goes by."""
        self._fallback: str | None = None
        """What was said last of a device that cannot be used."""
        self._refusals = 0
        """Of the user, since the stream was live last."""
        self._live_since = math.inf
        self._answered = False
        """Whether the worker has answered to the present attempt."""
        self._damaged = self._packets = 0
        """Frames and packets of this epoch."""
        self._damage_told = -math.inf
        self._key_frame_by = math.inf
        """Until when a first picture is waited for while data comes; infinite while none does."""
        self._last_sign = clock()
        """When the worker gave its last sign of life; of a live source that is open, its last frame."""

    @property
    def numbering(self) -> Numbering:
        """How far epochs and frames are counted."""
        return Numbering(self.epoch, max(self._after.next_index, self.next_index))

    @property
    def over(self) -> bool:
        """Whether the last event was emitted."""
        return self.state in {StreamState.ENDED, StreamState.FAILED}

    def begin(self) -> None:
        """Announce the stream, before its first attempt."""
        self._change(StreamState.CONNECTING)

    def attempt(self) -> None:
        """A worker is about to open the source."""
        self.retry_at = self._key_frame_by = math.inf
        self._answered = False
        self._last_sign = self._clock()

    def answered(self) -> None:
        """The worker gave a sign of life."""
        self._answered = True
        self._last_sign = self._clock()

    def waiting(self, *, live: bool) -> None:
        """Data comes, but no picture yet; ``live`` is what the web server's answer says."""
        self.answered()
        if live and self.source.live is None:  # else what its name suggests would count if it is lost before
            self.source = replace(self.source, live=True)
        if self._key_frame_by == math.inf:
            self._key_frame_by = self._clock() + self._timing.key_frame
            self._error = SourceError(f"{self.source.shown} sends data: waiting for a key frame")
            logger.warning("%s: %s", self.source.id, self._error)
            self._change(StreamState.CONNECTING)

    def slot_returned(self) -> None:
        """The worker may have waited for this slot, and was silent for that."""
        if not self.source.live:
            self._last_sign = self._clock()

    def silent_at(self) -> float:
        """When the worker will have been silent for too long, on ``clock``; infinite between attempts.

        It may hang in FFmpeg, or be stopped: the worker itself is not asked.
        """
        if self.retry_at < math.inf or self.over:
            return math.inf
        starting = 0.0 if self._answered else self._timing.start
        if not self.source.live:
            return self._last_sign + starting + self._timing.recorded_silence
        if self.info is not None:
            return self._last_sign + self.source.read_timeout
        # FFmpeg's time-outs fire after up to twice their value.
        silent = self._last_sign + starting + 2 * self.source.open_timeout + self._timing.first_frame
        return min(silent, self._key_frame_by)

    def silence(self) -> str:
        """What is wrong when :meth:`silent_at` has come, in words."""
        now = self._clock()
        if now >= self._key_frame_by:
            return f"no key frame came for {self._timing.key_frame:g} s"
        what = "neither picture nor error" if self._answered else "no sign of life"
        return f"its decode worker gave {what} for {now - self._last_sign:.0f} s and was replaced"

    def opened(self, opened: Opened) -> None:
        """The first picture is there."""
        if self.source.live is None:
            kind = "a live source" if opened.live else "a recording"
            logger.info("%s: %s is %s", self.source.id, self.source.shown, kind)
            self.source = replace(self.source, live=opened.live)
            self.next_index = self._after.next_index if opened.live else 0
        self.epoch += 1
        self._damaged = self._packets = 0
        self.info = opened.describe(self.source, self.epoch)
        if self._failed_attempts:
            logger.warning("%s: %s", self.source.id, "live again" if self.info.reconnects else "connected")
        else:
            logger.info("%s: reading %s", self.source.id, self.source.shown)
        if opened.fallback != self._fallback:
            self._fallback = opened.fallback
            if opened.fallback is not None:
                logger.warning("%s: %s", self.source.id, opened.fallback)
        self._failed_attempts = self._refusals = 0
        self._live_since = self._clock()
        self._emit(self.info)
        self._change(StreamState.LIVE)

    def count_to(self, next_index: int, *, damaged: int = 0, passed_over: int = 0) -> None:
        """Frames below this number were decoded; those of a live source that did not come are dropped.

        So many of them because they are damaged, and so many because of ``max_fps``.
        """
        missing = next_index - self.next_index - damaged - passed_over
        self.next_index = max(self.next_index, next_index)
        if missing > 0 and self.source.live:
            self._emit(FramesDropped(self.source.id, BUSY, missing))
        if damaged:
            self._emit(FramesDropped(self.source.id, DAMAGED, damaged))
        if passed_over:
            self._emit(FramesDropped(self.source.id, RATE, passed_over))

    def damaged(self, message: Damaged) -> None:
        """More damage was found; of a live source the log tells it now and then."""
        self._emit(FramesDamaged(self.source.id, message.lost, message.concealed, message.packets))
        self._damaged += message.concealed
        self._packets += message.packets
        now = self._clock()
        if self.source.live and now >= self._damage_told + self._timing.damage_told:
            self._damage_told = now
            lost = f", {self._packets} packets lost" if self._packets else ""
            what = "dropped" if self.source.damaged == "drop" else "kept"
            logger.warning(
                "%s: %d damaged frames (%s) since it was opened%s", self.source.id, self._damaged, what, lost
            )

    def interrupted(self, error: str | None, refused: Refused | None = None) -> None:
        """The present attempt is over: a recording ends or fails with that, a camera is tried again.

        ``error`` says why; None stands for the proper end of what was read.
        """
        if self.source.live is None and not self.source.recorded and error is not None:
            error += "; it counts as a camera until it answers, for a recording set live: false"
        if not self.source.recorded:
            self._try_again(error or "the stream ended", state=StreamState.CONNECTING, refused=refused)
        else:
            self.end(None if error is None else SourceError(f"{self.source.shown}: {error}"))

    def stalled(self) -> None:
        """A live source that was live gives no frame any more."""
        error = f"no frame for {self.source.read_timeout:g} s"
        self._try_again(error, state=StreamState.STALLED, refused=None)

    def limit(self, source: Source) -> bool:
        """Take another ``max_fps``; False, and nothing has changed, if there is more to ``source``."""
        known = self._known(source)
        if replace(known, max_fps=self.source.max_fps) != self.source:
            return False
        self.source = known
        return True

    def _known(self, source: Source) -> Source:
        return source if source.live is not None else replace(source, live=self.source.live)

    def replace(self, source: Source) -> None:
        """Go on with other settings, at once."""
        self.source = self._known(source)
        self.epoch = max(self.epoch, _before_first(source))
        self._failures = self._failed_attempts = self._refusals = 0
        self.info, self.retry_at = None, math.inf
        self._change(StreamState.CONNECTING)

    def end(self, error: SourceError | None = None) -> None:
        """Emit the last event, once: the stream fails with ``error``, or ends without one."""
        if self.over:
            return
        self.info, self.retry_at = None, math.inf
        if error is not None:
            logger.info("%s: %s", self.source.id, error)
            self._error = error
        self._change(StreamState.ENDED if error is None else StreamState.FAILED)

    def _try_again(self, error: str, *, state: StreamState, refused: Refused | None) -> None:
        now = self._clock()
        was_live, self.info = self.info is not None, None
        if was_live and now - self._live_since >= self._backoff.healthy:
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
        # The 1st, 2nd, 4th, 8th ... failure in a row: the log shows why, and does not fill up.
        loud = self._failed_attempts & (self._failed_attempts - 1) == 0
        level = logging.WARNING if loud else logging.INFO
        logger.log(level, "%s: %s; next attempt in %.1f s", self.source.id, self._error, delay)

    def _delay(self, refused: Refused | None) -> float:
        self._refusals += refused == "user"
        if refused == "user":
            return self._backoff.delay(self._refusals, random.random(), refused=True)
        # A restreamer knows no path while its own camera is away: what was there may be back soon.
        if refused == "path" and self.epoch == _before_first(self.source):
            return self._backoff.delay(1, random.random(), refused=True)
        return self._backoff.delay(self._failures, random.random())

    def _what_failed(self, was_live: bool) -> str:
        return f"lost {self.source.shown}" if was_live else f"cannot connect to {self.source.shown}"

    def _change(self, state: StreamState) -> None:
        self.state = state
        reconnects = max(0, self.epoch - (self.source.first_epoch or 0))
        self._emit(StreamChanged(self.source.id, state, self._error, reconnects))


def _before_first(source: Source) -> int:
    """The epoch before the first one that this engine may use."""
    return (source.first_epoch or 0) - 1
