"""The parent's side of one engine: its process, which is started again when it dies, and what it was told."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streamseg.config import RunConfig
from streamseg.scale.control import FromEngine, Numbers, OutputNumbers, Ready, WantedStream
from streamseg.scale.engine_process import EngineProcess

MOST_DEATHS = 5
"""In a row; then the engine is given up."""
_FIRST_DELAY, _LONGEST_DELAY = 3.0, 30.0
"""Seconds until it is started again, doubling with each death in a row. Loading the libraries keeps a core
busy for seconds, which the cameras that moved need first."""
_HEALTHY_SECONDS = 60.0
"""An engine that was ready for so long begins a new row."""
SILENT_SECONDS = 30.0
"""Without a report: the process is stopped, or hangs in a driver. Reports come several times a second."""
QUIET_SECONDS = 5.0
"""Without a report: it is not counted upon, until it is heard again."""
_LATE_SECONDS = 5.0
"""Between two looks that are to be a fraction of a second apart."""

_owners = itertools.count()


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What all engines of a run have in common."""

    config: RunConfig
    several: bool
    arguments: Sequence[str]


@dataclass(frozen=True, slots=True)
class Heard:
    """A report of an engine's process, None when that is gone."""

    handle: EngineHandle
    owner: int
    report: FromEngine | None


@dataclass(slots=True, eq=False)
class EngineHandle:
    """One entry of ``model.device``. The thread of the pool alone uses it."""

    number: int
    device: str
    threads: int | None
    settings: EngineSettings
    events: queue.SimpleQueue[Any]
    """Gets all that its processes tell, as :class:`Heard`."""
    owner: int = -1
    """Tells its present process from all others."""
    ready: Ready | None = None
    """Of the present process."""
    capacity: float | None = None
    """As it was measured first: a second measurement, beside others at work, would move streams."""
    handed: dict[str, WantedStream] = field(default_factory=dict)
    """What it was told to read."""
    outputs: list[OutputNumbers] = field(default_factory=list)
    queues: dict[str, int] = field(default_factory=dict)
    finishing: bool = False
    """Whether it was told that nothing more will come."""
    done: bool = False
    """Whether all is written."""
    deaths: int = 0
    """Of its processes, altogether."""
    fate: str = ""
    """How the last one ended."""
    _process: EngineProcess | None = None
    _in_a_row: int = 0
    _start_at: float = 0.0
    _ready_at: float = 0.0
    _heard_at: float = 0.0
    _looked_at: float = 0.0

    def __str__(self) -> str:
        return f"engine {self.number} ({self.device})"

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return None if self._process is None else self._process.pid

    @property
    def given_up(self) -> bool:
        """Whether it is not started again."""
        return self._in_a_row >= MOST_DEATHS

    @property
    def outlook(self) -> str:
        """What becomes of it after a death."""
        if self.given_up:
            return f"is given up after {MOST_DEATHS} deaths in a row"
        return f"starts again in {max(0.0, self._start_at - time.monotonic()):.0f} s"

    @property
    def silent(self) -> bool:
        """Whether it was ready, and has said nothing for some seconds."""
        return self.ready is not None and time.monotonic() - self._heard_at > QUIET_SECONDS

    @property
    def trouble(self) -> str | None:
        """Why it does not work now; None while it does. Any thread."""
        if self.silent:
            return f"has said nothing for {time.monotonic() - self._heard_at:.0f} s"
        return None if self.ready is not None else self.fate or "is starting"

    @property
    def takes_streams(self) -> bool:
        """Whether it may be told to read something."""
        return self.running and self.ready is not None and not self.finishing

    def start_if_due(self) -> None:
        """Start its process, unless there is one, or it has to wait; one that cannot be started has died."""
        if self.running or self.given_up or time.monotonic() < self._start_at:
            return
        settings = self.settings
        process = EngineProcess(
            settings.config,
            self.device,
            several=settings.several,
            threads=self.threads,
            arguments=settings.arguments,
        )
        try:
            process.start()
        except OSError as error:
            self._died(f"could not be started ({error.strerror})")
            return
        self._process, self.owner = process, next(_owners)
        self._heard_at = self._looked_at = time.monotonic()
        self.ready, self.finishing, self.done, self.handed = None, False, False, {}
        reader = threading.Thread(
            target=self._read, args=(self._process, self.owner), name=f"engine-{self.number}", daemon=True
        )
        reader.start()

    def _read(self, process: EngineProcess, owner: int) -> None:
        for report in process.reports():
            self.events.put(Heard(self, owner, report))
        self.events.put(Heard(self, owner, None))

    def hear(self, report: FromEngine) -> None:
        """Take notice of what it says of itself."""
        self._heard_at = time.monotonic()
        match report:
            case Ready():
                self.ready, self._ready_at = report, self._heard_at
                self.capacity = self.capacity or max(report.capacity, 1e-3)
            case Numbers(outputs=outputs, queues=queues):
                self.outputs, self.queues = outputs, queues

    def want(self, streams: Sequence[WantedStream]) -> None:
        """Have it read exactly these."""
        wanted = {stream.id: stream for stream in streams}
        if wanted != self.handed and self._process is not None:
            self.handed = wanted
            self._process.set_streams(streams)

    def finish(self) -> None:
        """Nothing more will come; one that is not ready has nothing to finish."""
        if self._process is not None and not self.finishing:
            self.finishing = True
            if self.ready is None:
                self._process.kill()
            else:
                self._process.finish()

    def stop(self) -> None:
        """The user has stopped the run."""
        if self._process is not None:
            self.finishing = True
            self._process.stop()

    def kill(self, why: str) -> None:
        """End its process at once."""
        if self._process is not None:
            self._process.kill(why)

    def kill_if_silent(self) -> None:
        """End a process that has said nothing for too long; loading the weights may take longer."""
        now = time.monotonic()
        if now - self._looked_at > _LATE_SECONDS:  # we were stopped ourselves, and have heard nobody
            self._heard_at = now
        self._looked_at = now
        if self.ready is not None and now - self._heard_at > SILENT_SECONDS:
            self.kill(f"said nothing for {SILENT_SECONDS:g} s")

    def ended(self) -> bool:
        """Its process is gone: plan the next one, if it died; returns whether it did."""
        assert self._process is not None
        fate = self._process.fate
        self._process.close()
        lived = time.monotonic() - self._ready_at if self.ready is not None else 0.0
        ended = self.done or (self.finishing and self.ready is None)
        self._process, self.ready, self.handed, self.outputs, self.queues = None, None, {}, [], {}
        if ended:
            return False
        self._in_a_row = 0 if lived > _HEALTHY_SECONDS else self._in_a_row
        self._died(fate)
        return True

    def _died(self, fate: str) -> None:
        self.deaths, self.fate = self.deaths + 1, fate
        self._in_a_row += 1
        delay = min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (self._in_a_row - 1))
        self._start_at = time.monotonic() + delay

    def close(self) -> None:
        """Make sure that there is no process."""
        if self._process is not None:
            self._process.close()
            self._process = None
