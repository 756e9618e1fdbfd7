"""Several engines on one machine, which to the program are one run: what a pipeline is on one."""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType

from streamseg.errors import RunError, UsageError
from streamseg.outputs.health import OutputHealth
from streamseg.runtime.build import RunPlan
from streamseg.scale.control import Failed, Ready
from streamseg.scale.dispatcher import Dispatcher
from streamseg.scale.handle import EngineHandle, EngineSettings, Heard
from streamseg.sources import Source
from streamseg.types import StreamInfo
from streamseg.zones import StreamRules

logger = logging.getLogger(__name__)

_TURN_SECONDS = 0.2


class EnginePool:
    """Runs the streams of a plan on several engines; to the program it is what a pipeline is."""

    def __init__(
        self,
        devices: Sequence[str],
        settings: EngineSettings,
        plan: RunPlan,
        *,
        since: float | None = None,
        check: Callable[[Ready], None] = lambda _: None,
        opened: Callable[[StreamInfo], None] = lambda _: None,
        advanced: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Prepare; no process is started before ``with``.

        Args:
            devices: Of the engines.
            settings: Of all of them.
            plan: The streams.
            since: When the interrupted run began that is gone on with, in UNIX seconds; None: there is none.
            check: Is told of the first engine that is ready; raises UsageError if the run cannot work with
                its model.
            opened: Hears of every opening, in the pool's thread.
            advanced: Hears how many frames have got their result.
        """
        self.stuck = False
        """Whether a thread of this process hangs: none does, engines are killed."""
        self.rules = dict(plan.rules)
        self._check = check
        self._events: queue.SimpleQueue[Heard | Callable[[], None]] = queue.SimpleQueue()
        self.handles = [
            EngineHandle(number, device, _threads(devices, device), settings, self._events)
            for number, device in enumerate(devices)
        ]
        """Of the engines, in the order of the devices; for reading."""
        self._dispatcher = Dispatcher(self.handles, plan, since=since, opened=opened, advanced=advanced)
        self.stats = self._dispatcher.stats
        """What the run did so far, on all engines."""
        self._model: Ready | None = None
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="engines", daemon=True)

    # What a pipeline is to the program. Any thread.

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all that the model finds."""
        return self._model.classes if self._model else ()

    def __enter__(self) -> EnginePool:
        """Start the engines and wait until all are ready.

        Raises UsageError or RunError, and no engine runs, if one of them cannot.
        """
        try:
            for handle in self.handles:
                handle.start_if_due()
                if not handle.running:
                    raise RunError(f"{handle} {handle.fate}")
            while not all(handle.ready for handle in self.handles):
                event = self._events.get()
                if isinstance(event, Heard):
                    self._hear_first(event)
        except BaseException:
            self._close()
            raise
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.stop()
        self.join()
        self._close()
        self.stats.seconds = time.monotonic() - self._started

    def join(self) -> None:
        """Block until every stream is over and all is written; after :meth:`stop` for some seconds only."""
        while self._thread.is_alive():
            self._thread.join(timeout=0.2)  # a bounded wait lets Python handle signals

    def stop(self) -> None:
        """Ask all engines to end, within 10 s; what was decoded is still processed."""
        for stream in list(self.stats.streams.values()):
            stream.stop()
        self._events.put(self._dispatcher.stop)

    def add(self, source: Source) -> bool:
        """Read one more source; False when the run is about to end.

        Raises ValueError if the id is in use; it may be one that has ended in this run.
        """
        if self._dispatcher.finishing or self.stats.admit(source.id) is None:
            return False
        self._events.put(lambda: self._dispatcher.begin(source, self.rules.get(source.id, StreamRules())))
        return True

    def remove(self, name: str) -> None:
        """End a stream; what was decoded of it is still processed, its files are finished."""
        if (stats := self.stats.streams.get(name)) is not None:
            stats.stop()
        self._events.put(lambda: self._dispatcher.remove(name))

    def replace(self, source: Source) -> None:
        """Go on with other settings for the camera of the same id, as after a reconnect."""
        self._events.put(lambda: self._dispatcher.change(source.id, source=source))

    def set_rules(self, name: str, rules: StreamRules) -> None:
        """Other rules for a stream, from its next frame on; one that is added later begins with them."""
        if self.rules.get(name) != rules:
            self.rules[name] = rules
            self._events.put(lambda: self._dispatcher.change(name, rules=rules))

    def output_health(self) -> list[OutputHealth]:
        """How each output does over all engines: it is down where it is so on one of them."""
        found: dict[str, OutputHealth] = {}
        for handle in self.handles:
            for output in list(handle.outputs):
                before = found.get(output.name, OutputHealth(output.name))
                trouble = None if output.trouble is None else f"{handle}: {output.trouble}"
                dropped = {**before.dropped}
                for stream, count in output.dropped.items():
                    dropped[stream] = dropped.get(stream, 0) + count
                found[output.name] = OutputHealth(
                    output.name,
                    before.trouble or trouble,
                    dropped=dropped,
                    errors=before.errors + output.errors,
                )
        return list(found.values())

    def trouble(self) -> str | None:
        """Why no stream is read, if no engine works; None also before the first is ready, and at the end."""
        troubles = [handle.trouble for handle in self.handles]
        if self._model is None or self._dispatcher.ending or not all(troubles):
            return None
        told = (f"{handle} {trouble}" for handle, trouble in zip(self.handles, troubles, strict=True))
        return f"no engine works: {'; '.join(told)}"

    def raise_first_error(self) -> None:
        """Raise what the run broke down with, if it did."""
        if self._dispatcher.error is not None:
            raise self._dispatcher.error

    def owner(self, stream: str) -> int | None:
        """Which process has a stream now, see :attr:`EngineHandle.owner`."""
        return self._dispatcher.streams.owner(stream)

    def _hear_first(self, event: Heard) -> None:
        """Before all are ready. Raises what keeps an engine from it."""
        match event.report:
            case Ready() as ready:
                self._dispatcher.hear(event)
                if self._model is None:
                    self._model = ready
                    self._check(ready)
            case Failed(error=error, exit_code=code):
                raise UsageError(error) if code == UsageError.exit_code else RunError(error)
            case None:
                event.handle.ended()
                raise RunError(f"{event.handle} {event.handle.fate} while it started")
            case _:
                self._dispatcher.hear(event)

    def _run(self) -> None:
        dispatcher = self._dispatcher
        try:
            while not dispatcher.over:
                self._take_events()
                dispatcher.attend()
        except Exception as error:  # a bug here must not leave the program waiting for ever
            logger.exception("the engines cannot be looked after any more")
            dispatcher.error = RunError(f"{type(error).__name__}: {error}")
        dispatcher.note_deaths()

    def _take_events(self) -> None:
        """All that has happened; waits a little for the first."""
        with suppress(queue.Empty):
            event = self._events.get(timeout=_TURN_SECONDS)
            while True:
                if isinstance(event, Heard):
                    self._dispatcher.hear(event)
                else:
                    event()
                event = self._events.get_nowait()

    def _close(self) -> None:
        for handle in self.handles:
            handle.close()


def _threads(devices: Sequence[str], device: str) -> int | None:
    """Of the network: engines on the processor share its cores."""
    if device != "cpu":
        return None
    return max(1, len(os.sched_getaffinity(0)) // devices.count("cpu"))
