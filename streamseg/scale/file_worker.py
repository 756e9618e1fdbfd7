"""A worker of a cluster that works recordings off: it pulls them from the queue, for one engine of its own.

queue  <-- FileReport, FileOrders -->  FileWorker  <-- socket -->  engine --> out/.streamseg/ENGINE/
                                       (commits: gives files their names)
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable

from streamseg.config import parse_config
from streamseg.errors import OutputError, UsageError
from streamseg.redis.trouble import delays
from streamseg.scale.control import Failed, FromEngine, Numbers, OutputFailed, Ready, Written
from streamseg.scale.division import recordings_at_once
from streamseg.scale.engine_process import EngineProcess
from streamseg.scale.file_engine import FileEngine, HeldFile, WorkerState
from streamseg.scale.file_orders import Ask, FileOrders, QueueAwayError
from streamseg.scale.file_places import FilePlaces, staged
from streamseg.scale.file_queue import RENEW_SECONDS, FileReport, Outcome
from streamseg.scale.file_work import FileWork

logger = logging.getLogger(__name__)

_SILENT_SECONDS = 30.0
"""Without a report: the engine is stopped, or hangs in a driver. Reports come several times a second."""


class FileWorker:
    """Does what it gets from the queue until :meth:`stop`."""

    def __init__(
        self, id_: str, *, device: str, place: str, ask: Ask, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare; nothing runs before :meth:`start`.

        Args:
            id_: Of the worker.
            device: For its engine.
            place: Machine and device, for people.
            ask: How it reaches the queue.
            clock: In seconds.
        """
        self._id, self._device, self._place = id_, device, place
        self._session = uuid.uuid4().hex[:12]
        self._engines = 0
        self._ask, self._clock = ask, clock
        self._state, self._lock = WorkerState(), threading.Lock()
        self._delays, self._retry_at = delays(), 0.0
        self._news, self._stopping = threading.Event(), threading.Event()

    def start(self) -> None:
        """Begin to report and to work, in threads of its own."""
        threading.Thread(target=self._report_always, name="file-reports", daemon=True).start()

    def stop(self) -> None:
        """End what is being read: its results stay for the next run. Within about 12 s."""
        self._stopping.set()
        self._news.set()
        with self._lock:
            engine, self._state.held = self._state.engine, {}
        if engine is not None:
            engine.end()

    def turn(self) -> None:
        """Report once, and do what is ordered."""
        report = self._report()
        orders = self._ask(report, self._state.version)
        with self._lock:
            del self._state.outcomes[: len(report.outcomes)]
        self._obey(orders)

    def _report_always(self) -> None:
        while not self._stopping.is_set():
            self._news.wait(RENEW_SECONDS)
            self._news.clear()
            try:
                self.turn()
            except QueueAwayError as error:
                logger.info("the queue gives no answer: %s", error)
                self._stopping.wait(RENEW_SECONDS)
            except Exception:  # the worker has to go on with what it has
                logger.exception("worker %s cannot do what was ordered", self._id)
                self._stopping.wait(RENEW_SECONDS)

    def _report(self) -> FileReport:
        with self._lock:
            state, engine = self._state, self._state.engine
            room = 0
            if engine is not None and engine.capacity is not None and not engine.full:
                room = max(0, recordings_at_once(engine.capacity) - len(state.held))
            return FileReport(
                self._id,
                self._session,
                engine="" if engine is None else engine.folder,
                place=self._place,
                room=0 if self._stopping.is_set() else room,
                held={stream: (held.claim.number, held.results) for stream, held in state.held.items()},
                outcomes=tuple(state.outcomes),
                trouble=state.trouble,
                fatal=state.fatal,
            )

    def _obey(self, orders: FileOrders) -> None:
        if self._stopping.is_set():
            return
        if orders.work is not None:
            self._take_work(orders.work, orders.version)
        with self._lock:
            work, engine = self._state.work, self._state.engine
        if work is None:
            return
        if engine is None:
            if self._clock() >= self._retry_at:
                self._start_engine(work)
            return
        self._watch(engine)
        self._read(engine, orders)

    def _take_work(self, work: FileWork, version: int) -> None:
        """Another run: the engine begins anew."""
        with self._lock:
            state = self._state
            engine, state.engine = state.engine, None
            state.work, state.version, state.held, state.outcomes = work, version, {}, []
            state.trouble = state.fatal = ""
        if engine is not None:
            engine.process.kill()

    def _start_engine(self, work: FileWork) -> None:
        self._engines += 1
        folder = f"{self._session}-{self._engines}"
        config = parse_config(work.config, where="queue")
        process = EngineProcess(staged(config, folder), self._device, several=work.several)
        engine = FileEngine(folder, process, FilePlaces(config, folder, several=work.several))
        engine.heard = self._clock()
        with self._lock:
            self._state.engine = engine
        try:
            process.start()
        except OSError as error:
            self._engine_ended(engine, f"cannot be started: {error}")
            return
        threading.Thread(target=self._listen, args=(engine,), name="file-engine", daemon=True).start()

    def _watch(self, engine: FileEngine) -> None:
        """End an engine that is of no more use."""
        with self._lock:
            silent = engine.capacity is not None and self._clock() - engine.heard > _SILENT_SECONDS
            used_up = engine.full and not self._state.held
            if used_up:
                self._state.engine, self._retry_at = None, 0.0
        if silent:
            engine.process.kill(f"said nothing for {_SILENT_SECONDS:g} s")
        if used_up:
            engine.process.finish()

    def _read(self, engine: FileEngine, orders: FileOrders) -> None:
        """Begin with what was claimed, end what is another's."""
        begun = [HeldFile(claim, None if claim.former else False) for claim in orders.claims]
        with self._lock:
            state = self._state
            if state.engine is not engine:  # it has ended meanwhile
                return
            for stream in orders.dropped:
                state.held.pop(stream, None)
            state.held |= {held.claim.stream: held for held in begun}
            engine.taken += len(begun)
            self._tell(engine)
        for held in begun:
            if held.kept is None:  # results of hours, from a network drive: reports must not wait for that
                threading.Thread(
                    target=self._keep, args=(engine, held), name="file-keep", daemon=True
                ).start()

    def _tell(self, engine: FileEngine) -> None:
        """Have the engine read what we have."""
        ready = [held for held in self._state.held.values() if held.kept is not None]
        wanted = {held.claim.stream: held.claim.number for held in ready}
        again = {s for s, number in wanted.items() if engine.told.get(s, number) != number}
        if again:  # else the engine would not begin anew with what it has failed at
            engine.process.set_streams([held.wanted() for held in ready if held.claim.stream not in again])
        if wanted != engine.told:
            engine.process.set_streams([held.wanted() for held in ready])
        engine.told = wanted

    def _keep(self, engine: FileEngine, held: HeldFile) -> None:
        claim, kept = held.claim, False
        try:
            kept = engine.places.keep(claim.stream, claim.former or "", claim.config["url"])
        except (OSError, UsageError) as error:
            logger.warning("%s: begun anew: %s", claim.stream, error)
        with self._lock:
            held.kept = kept
            if self._state.engine is engine and self._state.held.get(claim.stream) is held:
                self._tell(engine)

    def _listen(self, engine: FileEngine) -> None:
        """Take what an engine tells, until it has ended; in a thread of its own."""
        for report in engine.process.reports():
            if isinstance(report, Written):
                self._written(engine, report)
            else:
                with self._lock:
                    self._take(engine, report)
        self._engine_ended(engine, engine.trouble or f"its engine {engine.process.fate}")
        engine.process.close()
        engine.ended.set()

    def _take(self, engine: FileEngine, report: FromEngine) -> None:
        state = self._state
        engine.heard = self._clock()
        match report:
            case Ready(capacity=capacity):
                engine.capacity, state.trouble = capacity, ""
                self._delays = delays()
                self._news.set()
            case Numbers(streams=streams, outputs_gone=gone):
                for stream, numbers in streams.items():
                    if stream in state.held:
                        state.held[stream].results = numbers.results
                if gone and state.engine is engine:  # a full disk, say: no file is to blame
                    engine.trouble = engine.failure
                    state.held = {}
                    engine.process.kill()
            case OutputFailed(error=error):
                engine.failure = error
            case Failed(error=error, exit_code=code):
                engine.trouble = error
                if code == UsageError.exit_code:
                    state.fatal = error

    def _written(self, engine: FileEngine, report: Written) -> None:
        """A stream is over: its files get their names, if all is there."""
        numbers, stream = report.numbers, report.stream
        with self._lock:
            held = self._state.held.get(stream) if self._state.engine is engine else None
        # One that was stopped is of an earlier claim: this engine has it once more, or another has it.
        if held is None or numbers is None or numbers.stopped:
            return
        outcome = Outcome(
            held.claim.number,
            stream,
            numbers.error,
            results=numbers.results,
            labels=numbers.labels,
            lost=numbers.lost,
        )
        if numbers.error is None and (why := self._commit(engine, stream, numbers.results)) is not None:
            outcome = Outcome(held.claim.number, stream, why)
        with self._lock:
            if self._state.held.get(stream) is held:
                del self._state.held[stream]
                self._state.outcomes.append(outcome)
        self._news.set()

    def _commit(self, engine: FileEngine, stream: str, results: int) -> str | None:
        """Returns why it failed."""
        try:
            engine.places.commit(stream, results=results)
        except OutputError as error:
            failure, engine.failure = engine.failure, ""
            return failure or str(error)
        return None

    def _engine_ended(self, engine: FileEngine, why: str) -> None:
        with self._lock:
            state = self._state
            if state.engine is not engine or self._stopping.is_set():
                return  # it is of no more use
            logger.warning("worker %s: %s", self._id, why)
            self._retry_at = self._clock() + next(self._delays)
            state.trouble, state.engine = why, None
            for stream, held in state.held.items():
                state.outcomes.append(
                    Outcome(held.claim.number, stream, why, died=True, results=held.results)
                )
            state.held = {}
        self._news.set()
