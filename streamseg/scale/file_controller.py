"""The work of recordings that a cluster has: from handing it over to its end.

What it has to know after it was killed is little: the work itself, and what was counted. All else is found
out anew from the outputs and from what workers report.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from streamseg.errors import StreamsegError
from streamseg.scale.file_orders import FileOrders
from streamseg.scale.file_plan import (
    FilePlan,
    SetAside,
    finder_of_remains,
    go_on_with_list,
    plan_files,
    put_away,
)
from streamseg.scale.file_queue import FileQueue, FileReport
from streamseg.scale.file_work import FileWork

_CLAIMS = 1 << 32
"""Numbers of claims that a queue has for itself."""
_WORK, _STATE = "work", "state"
_TOLD = 20
"""Files that are named in a status."""


class _State(msgspec.Struct):
    version: int
    """Of the work."""
    queues: int = 0
    """That have begun with any work."""
    planned: bool = False
    """Whether the list of files is written."""
    closed: bool = False
    """Whether nothing is left to do."""
    total: int = 0
    finished_before: int = 0
    refused: tuple[str, ...] = ()
    frames: int = 0
    labels: dict[str, int] = {}
    damaged: dict[str, int] = {}
    """Frames that could not be decoded, of some of the files that are done."""
    damaged_files: int = 0
    began: float = 0.0
    """UNIX seconds."""
    seconds: float = 0.0
    """From the beginning to the end."""
    error: str = ""
    exit_code: int = 0
    stopped: bool = False


class FileController:
    """Knows the work, its queue and its end. Any thread."""

    def __init__(self, *, load: Callable[[str], bytes | None], save: Callable[[str, bytes], object]) -> None:
        """Go on with what a former controller has saved.

        Args:
            load: Returns what was kept under a name, None if nothing was.
            save: Keeps it.
        """
        self._store, self._lock = save, threading.RLock()
        self._queue: FileQueue | None = None
        self._before = _State(-1)
        self._set_aside: list[dict[str, str]] = []
        self._ready = False
        """Whether any engine could begin."""
        work, state = load(_WORK), load(_STATE)
        self._work = None if work is None else msgspec.json.decode(work, type=FileWork)
        self._state = None if state is None else msgspec.json.decode(state, type=_State)
        if self._work is not None and self._state is not None and not self._state.closed:
            self._plan_beside(self._work, self._state)

    def hand_over(self, work: FileWork) -> str:
        """Do this; returns why not, empty if it is done. The same work goes on."""
        with self._lock:
            state = self._state
            if state is not None and not state.closed:
                if self._work == work:
                    return ""
                return (
                    "the cluster is at work on other files; wait for its end, or end it with streamseg "
                    "cluster stop"
                )
            queues = 0 if state is None else state.queues
            version = 0 if state is None else state.version + 1
            self._work, self._state = work, _State(version, queues, began=time.time())
            self._queue, self._before, self._set_aside, self._ready = None, _State(-1), [], False
            self._store(_WORK, msgspec.json.encode(work))
            self._save()
            self._plan_beside(work, self._state)
        return ""

    def renew(self, report: FileReport, version: int) -> FileOrders:
        """Take a worker's report, and the version of the work that it knows; returns what it is to do."""
        with self._lock:
            state, queue = self._state, self._queue
            if state is None or state.closed or queue is None:
                return FileOrders(version)
            self._ready = self._ready or report.room > 0
            if report.fatal and not self._ready and version == state.version:
                self._fail(report.fatal, 2)
            if version != state.version:
                return FileOrders(state.version, work=self._work)
            claims, dropped = queue.renew(report)
            return FileOrders(version, claims, dropped)

    def stop(self) -> None:
        """Hand out nothing more."""
        with self._lock:
            if self._state is not None and not self._state.closed:
                self._state.stopped = True
                if self._queue is not None:
                    self._queue.stop()

    def attend(self) -> None:
        """Take back what lost workers had, and save what was counted. To be called once a second."""
        with self._lock:
            if self._queue is not None and self._state is not None and not self._state.closed:
                self._queue.expire()
                self._save()

    @property
    def wants_workers(self) -> bool:
        """Whether there is something to do for them."""
        with self._lock:
            return self._queue is not None and not self.finishing and not self._closed

    @property
    def finishing(self) -> bool:
        """Whether the work is over but for the end of its workers."""
        with self._lock:
            state = self._state
            if state is None or state.closed:
                return False
            return bool(state.error) or state.stopped or (self._queue is not None and not self._queue.left)

    def close(self) -> None:
        """No worker runs any more."""
        with self._lock:
            state = self._state
            assert state is not None
            assert self._work is not None
            if self._queue is not None and not self._queue.left and not self._set_aside:
                put_away(self._work)
            state.closed, state.seconds = True, time.time() - state.began
            self._save()

    @property
    def device(self) -> str:
        """What the configuration says of the engines' device."""
        with self._lock:
            model = {} if self._work is None else self._work.config.get("model", {})
            return str(model.get("device", "auto"))

    def status(self) -> dict[str, Any]:
        """How it goes, for people and programs; empty without work."""
        with self._lock:
            state, queue, work = self._state, self._queue, self._work
            if state is None or work is None:
                return {}
            self._count()
            return {
                "state": _word(state, planned=queue is not None),
                "files": state.total,
                "finished_before": state.finished_before,
                "done": self._done(state, queue),
                "set_aside": len(self._set_aside),
                "reasons": self._set_aside[:_TOLD],
                "list": work.set_aside,
                "refused": list(state.refused),
                "damaged": state.damaged,
                "damaged_files": state.damaged_files,
                "frames": state.frames,
                "under_way": 0 if queue is None else queue.under_way,
                "labels": state.labels,
                "seconds": state.seconds or time.time() - state.began,
                "error": state.error,
                "exit_code": state.exit_code,
                "workers": [] if queue is None else [_of_worker(*one) for one in queue.workers()],
            }

    @property
    def _closed(self) -> bool:
        return self._state is None or self._state.closed

    def _done(self, state: _State, queue: FileQueue | None) -> int:
        if queue is None:
            return 0
        return state.total - state.finished_before - queue.left - len(self._set_aside)

    def _plan_beside(self, work: FileWork, state: _State) -> None:
        """Finding a million files takes minutes: workers and people are answered meanwhile."""
        threading.Thread(target=self._plan, args=(work, state), name="plan", daemon=True).start()

    def _plan(self, work: FileWork, state: _State) -> None:
        try:
            plan = go_on_with_list(work) if state.planned else plan_files(work)
            left_by = finder_of_remains(work)
        except Exception as error:  # noqa: BLE001  the user has to hear of it, whatever it is
            told = isinstance(error, StreamsegError)
            with self._lock:
                if self._state is state:
                    self._fail(str(error) if told else f"{type(error).__name__}: {error}", _exit_code(error))
            return
        with self._lock:
            if self._state is state and not state.closed:
                self._begin(work, state, plan, left_by)

    def _begin(
        self, work: FileWork, state: _State, plan: FilePlan, left_by: Callable[[str], str | None]
    ) -> None:
        if not state.planned:
            state.total, state.finished_before = len(plan.left) + plan.finished, plan.finished
            state.planned, state.refused = True, plan.refused
        else:
            known = SetAside(work.set_aside).read()
            self._set_aside = [{key: line[key] for key in ("stream", "reason")} for line in known]
        self._before = copy.copy(state)
        former, state.queues = state.queues, state.queues + 1
        self._queue = FileQueue(
            plan.left,
            config_of=plan.config_of,
            left_by=left_by,
            set_aside=lambda stream, why: self._give_up(work, plan, stream, why),
            first_claim=former * _CLAIMS,
        )
        if state.stopped:
            self._queue.stop()
        self._save()

    def _give_up(self, work: FileWork, plan: FilePlan, stream: str, why: str) -> None:
        self._set_aside.append({"stream": stream, "reason": why})
        try:
            SetAside(work.set_aside).add(stream, plan.config_of(stream)["url"], why)
        except OSError as error:
            self._fail(f"cannot write {work.set_aside}: {error.strerror or error}", 1)

    def _fail(self, error: str, exit_code: int) -> None:
        assert self._state is not None
        self._state.error, self._state.exit_code = self._state.error or error, exit_code
        if self._queue is not None:
            self._queue.stop()

    def _count(self) -> None:
        state, queue, before = self._state, self._queue, self._before
        if queue is not None and state is not None:
            state.frames = before.frames + queue.frames
            state.labels = dict(Counter(before.labels) + queue.labels)
            damaged = {**before.damaged, **queue.damaged}
            state.damaged = dict(list(damaged.items())[:_TOLD])
            state.damaged_files = before.damaged_files + len(queue.damaged)

    def _save(self) -> None:
        self._count()
        self._store(_STATE, msgspec.json.encode(self._state))


def _exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, StreamsegError) else 1


def _word(state: _State, *, planned: bool) -> str:
    if state.closed:
        return "failed" if state.error else "stopped" if state.stopped else "over"
    return "working" if planned else "planning"


def _of_worker(report: FileReport, age: float) -> dict[str, Any]:
    return {
        "worker": report.worker,
        "place": report.place,
        "files": sorted(report.held),
        "heard_seconds_ago": round(age, 1),
        "trouble": report.trouble,
    }
