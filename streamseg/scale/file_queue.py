"""Which recordings are left, who works at which, and which were given up.

Work is pulled: a worker that has room asks, and gets claims. A claim has a number and a lease, which each
report of the worker renews. A worker that is not heard of loses what it had; what it reports of a claim that
is not its own any more changes nothing, except that a recording whose results have their name is done,
whoever made it (see :mod:`streamseg.scale.file_places`).
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

RENEW_SECONDS = 1.0
"""Between two reports of a worker that has nothing to tell."""
LEASE_SECONDS = 15.0
"""A worker whose machine is busy may be silent for some seconds; a longer one loses nothing but time."""
MOST_FAILURES = 3
"""Of one file: attempts that failed, or workers and engines that died over it without getting further."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A recording that a worker is to do."""

    number: int
    """Higher than those of all earlier claims."""
    stream: str
    config: dict[str, Any]
    """Keys of :class:`streamseg.config.StreamConfig`."""
    former: str | None = None
    """The engine that has left results of it to go on with."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt at a recording ended."""

    number: int
    """Of the claim."""
    stream: str
    error: str | None = None
    """Why it failed; None: all its files have their names."""
    died: bool = False
    """Whether the engine died over it, which may be another file's fault."""
    results: int = 0
    labels: Mapping[str, int] = field(default_factory=dict)
    lost: int = 0
    """Frames of a damaged file that could not be decoded."""


@dataclass(frozen=True, slots=True)
class FileReport:
    """What a worker tells with each renewal of its leases."""

    worker: str
    session: str = ""
    """Of its process: another one has begun with nothing."""
    engine: str = ""
    """Folder of its engine."""
    place: str = ""
    """Machine and device, for people."""
    room: int = 0
    """How many recordings it could begin with."""
    held: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By stream: the number of the claim, and results so far."""
    outcomes: Sequence[Outcome] = ()
    """Those of which no answer has said that they were heard."""
    trouble: str = ""
    """Why it does not work; empty while it does."""
    fatal: str = ""
    """Why no worker can, with this configuration."""


@dataclass(slots=True)
class _Attempts:
    failures: int = 0
    died: bool = False
    """Whether somebody died over it: it is handed out alone, so that no other file is lost with it."""
    furthest: int = 0
    """Results that the best attempt had."""
    former: str | None = None


@dataclass(slots=True)
class _Held:
    number: int
    worker: str
    session: str
    engine: str
    results: int = 0


@dataclass(slots=True)
class _Seen:
    report: FileReport
    at: float


class FileQueue:
    """Gives recordings to workers. One thread at a time."""

    def __init__(
        self,
        streams: Iterable[str],
        *,
        config_of: Callable[[str], dict[str, Any]],
        left_by: Callable[[str], str | None] = lambda _: None,
        set_aside: Callable[[str, str], None] = lambda _stream, _why: None,
        first_claim: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with all that is left.

        Args:
            streams: That, in order.
            config_of: The keys of a stream.
            left_by: The engine that has left results of a stream.
            set_aside: Hears of files that are given up, and why.
            first_claim: Above the numbers of all claims of former queues.
            clock: In seconds.
        """
        self._config_of, self._left_by, self._set_aside, self._clock = config_of, left_by, set_aside, clock
        self._pending = deque(streams)
        self._suspects: deque[str] = deque()
        """Pending, too, but over each of them somebody has died."""
        self._open = set(self._pending)
        """All that are neither done nor given up."""
        self._attempts: dict[str, _Attempts] = {}
        self._held: dict[str, _Held] = {}
        self._workers: dict[str, _Seen] = {}
        self._next = first_claim
        self._adopt_until = clock() + (LEASE_SECONDS if first_claim else 0.0)
        """Workers may hold claims of a former queue: nothing else is handed out until they were heard."""
        self.done = 0
        self.frames = 0
        self.labels: Counter[str] = Counter()
        self.damaged: dict[str, int] = {}
        """Frames that could not be decoded, of files that are done."""
        self.stopping = False

    @property
    def left(self) -> int:
        """Files that are neither done nor given up."""
        return len(self._open)

    @property
    def under_way(self) -> int:
        """Results of files that are not done yet."""
        return sum(held.results for held in self._held.values())

    def workers(self) -> list[tuple[FileReport, float]]:
        """The last report of each worker, and its age in seconds."""
        now = self._clock()
        return [(seen.report, now - seen.at) for _, seen in sorted(self._workers.items())]

    def stop(self) -> None:
        """Hand out nothing more."""
        self.stopping = True

    def renew(self, report: FileReport) -> tuple[list[Claim], list[str]]:
        """Take a worker's report; returns its new claims, and the streams that it is to drop."""
        self._workers[report.worker] = _Seen(report, self._clock())
        for outcome in report.outcomes:
            self._take(outcome)
        dropped = [stream for stream in report.held if not self._holds(report, stream)]
        self._release(report)
        self.expire()
        return self._give(report), dropped

    def expire(self) -> None:
        """Take back what lost workers had. To be called once a second."""
        now = self._clock()
        lost = {name for name, seen in self._workers.items() if now - seen.at > LEASE_SECONDS}
        for name in lost:
            del self._workers[name]
        for stream in [s for s, held in self._held.items() if held.worker not in self._workers]:
            self._died(stream, "the worker that read it is gone")

    def _holds(self, report: FileReport, stream: str) -> bool:
        """Whether a worker still has what it says; what a former queue gave it, it keeps."""
        number, results = report.held[stream]
        held = self._held.get(stream)
        if held is None and stream in self._open and self._clock() < self._adopt_until:
            held = self._held[stream] = _Held(number, report.worker, report.session, report.engine)
        if held is None or held.number != number:
            return False
        held.results = max(held.results, results)
        return True

    def _release(self, report: FileReport) -> None:
        """What a worker was given and does not have: its answer was lost, or its process is another."""
        for stream in [s for s, held in self._held.items() if held.worker == report.worker]:
            held = self._held[stream]
            if held.session != report.session:
                self._died(stream, "the worker that read it died")
            elif stream not in report.held:
                del self._held[stream]
                died = stream in self._attempts and self._attempts[stream].died
                (self._suspects if died else self._pending).appendleft(stream)

    def _give(self, report: FileReport) -> list[Claim]:
        if self.stopping or self._clock() < self._adopt_until:
            return []
        claims: list[Claim] = []
        mine = [s for s, held in self._held.items() if held.worker == report.worker]
        if any(self._of(stream).died for stream in mine if stream in self._attempts):
            return []
        if report.room and not mine and (suspect := self._next_of(self._suspects)) is not None:
            return [self._claim(suspect, report)]
        while len(claims) < report.room and (stream := self._next_of(self._pending)) is not None:
            claims.append(self._claim(stream, report))
        return claims

    def _next_of(self, queue: deque[str]) -> str | None:
        """What waits longest; what somebody has already, or was moved to the other queue, is passed over."""
        while queue:
            stream = queue.popleft()
            died = stream in self._attempts and self._attempts[stream].died
            if stream in self._open and stream not in self._held and died == (queue is self._suspects):
                return stream
        return None

    def _claim(self, stream: str, report: FileReport) -> Claim:
        self._next += 1
        self._held[stream] = _Held(self._next, report.worker, report.session, report.engine)
        attempts = self._attempts.get(stream)
        former = attempts.former if attempts else self._left_by(stream)
        return Claim(self._next, stream, self._config_of(stream), former)

    def _take(self, outcome: Outcome) -> None:
        stream = outcome.stream
        if stream not in self._open:
            return
        if outcome.error is None:
            self._done(outcome)
            return
        held = self._held.get(stream)
        if held is None or held.number != outcome.number:
            return
        if outcome.died:
            held.results = max(held.results, outcome.results)
            self._died(stream, outcome.error)
        else:
            attempts = self._of(stream)
            attempts.former = None  # it is begun anew: what is there may be the cause
            self._failed(stream, attempts, outcome.error)

    def _done(self, outcome: Outcome) -> None:
        stream = outcome.stream
        self._open.discard(stream)
        self._attempts.pop(stream, None)
        self._held.pop(stream, None)
        self.done += 1
        self.frames += outcome.results
        self.labels.update(outcome.labels)
        if outcome.lost:
            self.damaged[stream] = outcome.lost

    def _died(self, stream: str, why: str) -> None:
        """Somebody died while he had it; whoever gets further each time is not to blame."""
        held, attempts = self._held[stream], self._of(stream)
        attempts.died, attempts.former = True, held.engine
        if held.results > attempts.furthest:
            attempts.furthest, attempts.failures = held.results, 0
        self._failed(stream, attempts, why)

    def _failed(self, stream: str, attempts: _Attempts, why: str) -> None:
        self._held.pop(stream, None)
        attempts.failures += 1
        if attempts.failures < MOST_FAILURES:
            (self._suspects if attempts.died else self._pending).append(stream)
            return
        self._open.discard(stream)
        del self._attempts[stream]
        self._set_aside(stream, why)

    def _of(self, stream: str) -> _Attempts:
        return self._attempts.setdefault(stream, _Attempts())
