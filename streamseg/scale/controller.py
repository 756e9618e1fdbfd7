"""What a cluster is to do, and who does it: it is asked by workers once a second.

It can be removed or begin anew at any time: workers go on with what they have, and tell the next one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from streamseg.scale.orders import Orders
from streamseg.scale.roster import Report, Roster
from streamseg.scale.work import Work


class _Saved(msgspec.Struct, frozen=True):
    version: int
    began: float
    """UNIX seconds when the cluster was given its first work."""
    work: Work


class Controller:
    """Knows the work and the workers. One thread at a time."""

    def __init__(
        self,
        *,
        saved: bytes | None,
        save: Callable[[bytes], object],
        expected: Iterable[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go on with what a former controller has saved.

        Args:
            saved: That; None if there was none.
            save: Keeps what is given for the next controller.
            expected: Workers that may have cameras of a former controller.
            clock: In seconds.
        """
        self._save = save
        self._roster = Roster(expected, clock=clock)
        self._state = None if saved is None else msgspec.json.decode(saved, type=_Saved)
        self._want()

    def hand_over(self, work: Work) -> None:
        """Do this from now on: cameras that are in it already, unchanged, go on undisturbed."""
        before = self._state
        self._state = _Saved(
            version=0 if before is None else before.version + 1,
            began=time.time() if before is None else before.began,
            work=work,
        )
        self._save(msgspec.json.encode(self._state))
        self._want()

    def renew(self, report: Report, version: int) -> Orders:
        """Take a worker's report, and the version of the work that it knows; returns what it is to do."""
        cameras = self._roster.renew(report)
        if self._state is None:
            return Orders(-1, {}, {})
        work, news = self._state.work, version != self._state.version
        return Orders(
            self._state.version,
            cameras,
            {s: work.streams[s] for s in cameras if news or s not in report.held},
            config=work.config if news else None,
            began=self._state.began,
        )

    def broken(self, worker: str) -> None:
        """A connection to a worker has broken: it may be gone."""
        self._roster.broken(worker)

    def status(self) -> dict[str, Any]:
        """Who does what, for people and programs."""
        reports = {report.worker: (report, age) for report, age in self._roster.workers()}
        return {
            "workers": [_of_worker(report, age) for report, age in reports.values()],
            "lost_workers": [_of_lost(report, age) for report, age in self._roster.lost()],
            "cameras": [
                {"stream": stream, **_of_camera(stream, owner, reports)}
                for stream, owner in self._roster.owners().items()
            ],
        }

    @property
    def device(self) -> str:
        """What the configuration says of the engines' device."""
        return "auto" if self._state is None else str(self._state.work.config["model"]["device"])

    def _want(self) -> None:
        if self._state is None:
            self._roster.want(())
            return
        work = self._state.work
        guarded = any(output["type"] == "redis" for output in work.config["outputs"])
        self._roster.want(work.streams, guarded=guarded)


def _of_worker(report: Report, age: float) -> dict[str, Any]:
    return {
        "worker": report.worker,
        "place": report.place,
        "capacity": None if report.capacity is None else round(report.capacity, 1),
        "cameras": len(report.held),
        "frames": report.frames,
        "heard_seconds_ago": round(age, 1),
        "trouble": report.trouble,
        "metrics": report.metrics,
    }


def _of_lost(report: Report, age: float) -> dict[str, Any]:
    return {"worker": report.worker, "place": report.place, "heard_seconds_ago": round(age, 1)}


def _of_camera(stream: str, owner: str | None, reports: Mapping[str, tuple[Report, float]]) -> dict[str, Any]:
    """``owner`` is to have it; whoever has it still is told as long as that is so."""
    holders = [id_ for id_, (report, _) in reports.items() if stream in report.held]
    worker = holders[0] if holders and owner not in holders else owner
    if worker not in holders:
        return {"worker": worker, "epoch": None, "state": "waiting"}
    report, _ = reports[worker]
    return {"worker": worker, "epoch": report.held[stream], "state": report.states[stream]}
