"""One output in threads of its own, behind backlogs that never make the model wait.

    StreamBacklog.put -> steps that wait -> one of the output's threads -> StreamWriter

A stream's steps are done in order, by one thread at a time; those of different streams are done side by side
as far as the output allows.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

from streamseg.errors import OutputError, OutputGoneError, StreamsegError, without_traceback
from streamseg.outputs.backlog import Limits, StreamBacklog
from streamseg.outputs.health import OutputHealth, count_dropped, first_error
from streamseg.outputs.steps import Steps
from streamseg.outputs.turns import Turns
from streamseg.types import Meter, Output, StreamEnd, StreamInfo

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
"""How often :meth:`OutputRunner.finish` looks whether its deadline came nearer."""
_LAST_SECONDS = 0.5
"""For an output that was given up to close its files."""


class OutputRunner:
    """Runs one output. None of its methods but :meth:`finish` and :meth:`abort` waits for the output.

    An error ends the stream it came up in, and the whole output if it is an OutputGoneError: from then on
    results are discarded, which lets go of their frames. Each error is handed to ``on_error`` once (called
    in one of the output's threads, or in the one that reports), and the first one kept in :attr:`error`.
    """

    def __init__(
        self,
        output: Output,
        *,
        on_error: Callable[[StreamsegError], None],
        name: str | None = None,
        backlog: int | None = None,
        meter: Meter | None = None,
    ) -> None:
        """Set up; no thread runs before :meth:`start`.

        Args:
            output: What writes.
            on_error: Hears of each error.
            name: For messages; the output's class by default.
            backlog: Results kept per live stream, by default as the output's need of pixels allows.
            meter: Is told how long writing takes, as the stage "publish".
        """
        self.name = name or type(output).__name__
        self.error: StreamsegError | None = None
        """The first error."""
        self.gone = False
        """Whether nothing more can be written at all."""
        self._output, self._on_error, self._limit = output, on_error, backlog
        self._lock = threading.Condition()
        self._turns = Turns(self._lock, before_ready=self._add_thread_if_wanted)
        self._threads: list[threading.Thread] = []
        self._started = self._ending = self._aborting = False
        self._busy = self._left = self._done = self._errors = 0
        self._steps = Steps(output, meter)
        self._refused: list[StreamBacklog] = []
        """Of streams that began after the output was gone."""
        self._over = threading.Event()

    def __len__(self) -> int:
        """Results that wait."""
        with self._lock:
            return sum(map(len, self._turns.backlogs))

    @property
    def closes_last(self) -> bool:
        """See :attr:`Output.closes_last`."""
        return self._output.closes_last

    @property
    def lost(self) -> int:
        """Results discarded because the output had failed or was aborted."""
        with self._lock:
            return self._turns.lost

    def health(self) -> OutputHealth:
        """How it does now; any thread."""
        stuck, own = self._steps.watch.stuck(), self._output.trouble
        with self._lock:
            if self.gone:
                stuck, own = None, str(self.error)
            trouble = own or stuck or first_error(self._turns.backlogs)
            return OutputHealth(
                self.name,
                trouble,
                stuck=trouble is not None and trouble == stuck,
                dropped=count_dropped(self._turns.dropped, [*self._turns.backlogs, *self._refused]),
                errors=self._errors,
                missed=self._output.missed,
            )

    def start(self) -> None:
        """Start the first thread; more follow when more streams have something to do."""
        with self._lock:
            self._started = True
            self._add_thread()

    def open(self, info: StreamInfo) -> StreamBacklog:
        """Announce a stream that begins. One of the same id that was here before is finished first."""
        with self._lock:
            refused = self.gone or self._ending
            backlog = StreamBacklog(
                info,
                Limits.of(
                    self._output.pixels,
                    info.policy,
                    results=self._limit,
                    events_only=self._output.events_only,
                ),
                output=self.name,
                lock=self._lock,
                changed=_ignore if refused else self._turns.schedule,
            )
            if refused:
                backlog.discard(writing=False)
                backlog.leave()
                self._refused.append(backlog)
                return backlog
            self._turns.begin(backlog)
            return backlog

    def report(self, stream: str, **fields: str | float) -> None:
        """Tell the output of a stream what only the run knows. An error is the stream's, if it is open."""
        with self._lock:
            backlog = self._turns.newest(stream)
        self._guarded(lambda: self._output.report(stream, **fields), backlog, reporting=True)

    def hurry(self, patience: float | None = None) -> None:
        """Tell the output that the run is over, see :meth:`Output.hurry`."""
        self._output.hurry(patience)

    def end(self) -> None:
        """No more results will come: close what is open and shut the output down. Does not wait for that."""
        with self._lock:
            self._ending = True
            self._lock.notify_all()
            streams = list(self._turns.backlogs)
        for backlog in streams:
            backlog.close(StreamEnd.FAILED)  # unless it was closed already
        self.hurry()

    def finish(
        self, timeout: float | None = None, *, deadline: Callable[[], float] = lambda: math.inf
    ) -> None:
        """Write all that waits, shut the output down and return; see :attr:`error` then.

        Args:
            timeout: Seconds without progress after which the rest is given up, None for never.
            deadline: When the rest is given up at the latest, on the monotonic clock; may come nearer
                while we wait.
        """
        if self._output.paced_by_reader:
            timeout, deadline = None, lambda: math.inf
        self.end()
        done, since = self._done, time.monotonic()
        while not self._aborting and not self._wait_for_threads(_POLL_SECONDS):
            now = time.monotonic()
            if self._done != done:
                done, since = self._done, now
            if timeout is not None and now >= since + timeout:
                self._give_up(f"was stuck for {timeout:g} s")
            elif now >= deadline():
                self._give_up("could not finish in time")

    def abort(self, timeout: float = 2.0) -> None:
        """Discard what waits and close open streams as failed; wait ``timeout`` seconds for that."""
        with self._lock:
            self._ending = self._aborting = True
            self._discard(self._turns.backlogs, writing=False)
            self._lock.notify_all()
        self.hurry(0.0)
        if not self._wait_for_threads(timeout):
            with self._lock:
                for backlog in self._turns.backlogs:
                    backlog.leave()

    def _give_up(self, why: str) -> None:
        with self._lock:
            self._discard(self._turns.backlogs, writing=True)
        self._fail(OutputGoneError(f"{self.name} {why}"))
        self.abort(timeout=_LAST_SECONDS)

    def _wait_for_threads(self, timeout: float) -> bool:
        """Wait so many seconds for all of them to end; returns whether they have."""
        if not self._started:
            return True
        if not self._over.wait(timeout):
            return False
        for thread in self._threads:
            thread.join()
        return True

    # With the lock held.

    def _add_thread_if_wanted(self) -> None:
        if len(self._threads) < len(self._turns.ready) + self._busy:
            self._add_thread()

    def _add_thread(self) -> None:
        if self._started and len(self._threads) < max(1, self._output.writers_at_once):
            name = f"output-{self.name}-{len(self._threads)}"
            self._threads.append(threading.Thread(target=self._run, name=name, daemon=True))
            self._threads[-1].start()

    def _discard(self, backlogs: list[StreamBacklog], *, writing: bool) -> None:
        self._turns.discard(backlogs, writing=writing, ending=self._ending)

    # In the output's threads.

    def _run(self) -> None:
        """Do steps until the end; the last thread shuts the output down."""
        while (backlog := self._next()) is not None:
            self._do_step(backlog)
        with self._lock:
            self._left += 1
            last = self._left == len(self._threads)
        if last:
            self._guarded(self._output.shutdown)
            self._over.set()

    def _next(self) -> StreamBacklog | None:
        """Wait for a stream's turn; None when there will be none."""
        with self._lock:
            while not self._turns.ready:
                if self._ending and not self._turns.backlogs:
                    return None
                self._lock.wait()
            self._busy += 1
            return self._turns.ready.popleft()

    def _do_step(self, backlog: StreamBacklog) -> None:
        """One step of a stream. Nothing holds its frame afterwards."""
        with self._lock:
            step = backlog.take_step()
        self._guarded(lambda: self._steps.do(backlog, step), backlog)
        with self._lock:
            self._done += 1
            self._busy -= 1
            backlog.step_done()
            backlog.scheduled = False
            self._turns.schedule(backlog)

    # In any thread.

    def _guarded(
        self, step: Callable[[], None], backlog: StreamBacklog | None = None, *, reporting: bool = False
    ) -> None:
        try:
            step()
        except StreamsegError as error:
            self._fail(error, backlog, reporting=reporting)
        except Exception as error:  # whatever an output does, the others go on
            logger.debug("%s failed", self.name, exc_info=True)
            text = f"{self.name}: {type(error).__name__}: {error}"
            self._fail(OutputError(text), backlog, reporting=reporting)

    def _fail(
        self, error: StreamsegError, backlog: StreamBacklog | None = None, *, reporting: bool = False
    ) -> None:
        """End a stream, or all of them if the output is gone or being shut down.

        ``reporting``: it came up in :meth:`report`, of a stream that may not be open.
        """
        error = without_traceback(error)
        with self._lock:
            self._errors += 1
            again = reporting and self.error is not None if backlog is None else backlog.failed
            if backlog is not None:
                backlog.error = backlog.error or error
                # What is being written meanwhile is not lost by what happens in another thread.
                self._discard([backlog], writing=not reporting)
            if self.gone or again:
                logger.debug("%s failed again: %s", self.name, error)
                return
            if (backlog is None and not reporting) or isinstance(error, OutputGoneError):
                self.gone = True
                self._discard(self._turns.backlogs, writing=False)
            if self._ending and (lost := self._turns.lost):
                error = type(error)(f"{error}; {lost} results are lost")
            # What ended the output counts for more than what ended a stream before.
            self.error = error if self.gone else self.error or error
        self._on_error(error)


def _ignore(_: StreamBacklog) -> None:
    """A stream that came too late has nothing to do."""
