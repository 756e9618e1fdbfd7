"""Streamseg on a Ray cluster: a detached controller, and a worker for every device.

Ray starts the workers and starts them again, and carries reports and orders once a second. Frames and results
never pass through it: each worker's engine reads its cameras and writes its outputs itself.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import suppress
from typing import Any

from streamseg.errors import RunError, UsageError
from streamseg.scale.camera_worker import CameraWorker
from streamseg.scale.controller import Controller
from streamseg.scale.orders import ControllerAwayError, Orders
from streamseg.scale.precedence import as_its_parent
from streamseg.scale.ray_actors import (
    NAMESPACE,
    WORKERS,
    Asking,
    actor_names,
    connect,
    end_workers,
    hand_over_to,
    hire,
    import_ray,
    key_values,
    one_line,
    place_of,
)
from streamseg.scale.ray_watch import WATCH_SECONDS, WorkerWatch
from streamseg.scale.roster import ANSWER_SECONDS, Report
from streamseg.scale.work import Work

logger = logging.getLogger(__name__)

CONTROLLER = "controller"
_SAVED = b"streamseg-work"
_HIRE_SECONDS = 1.0
"""Between two looks for nodes that have come."""
_STOP_SECONDS = 20.0


def hand_over(address: str, work: Work) -> None:
    """Give work to a cluster, which does it from then on, whatever becomes of this process.

    Raises UsageError or RunError.
    """
    hand_over_to(_ControllerActor, CONTROLLER, address, work)


def cluster_status(address: str) -> dict[str, Any]:
    """Who does what, see :meth:`Controller.status`. Raises UsageError or RunError."""
    ray = connect(address)
    try:
        status: dict[str, Any] = ray.get(_controller(ray).status.remote(), timeout=30)
    except ray.exceptions.RayError as error:
        raise RunError(f"the controller at {address} gives no answer: {one_line(error)}") from None
    return status


def stop_cluster(address: str) -> int:
    """End all cameras, finish what is written and remove everything; returns how many workers there were.

    Raises UsageError.
    """
    ray = connect(address)
    with suppress(UsageError):  # it may be gone already, and workers still at work
        ray.kill(_controller(ray))
    count = end_workers(ray, WORKERS, seconds=_STOP_SECONDS)
    key_values()._internal_kv_del(_SAVED, namespace=NAMESPACE)
    return count


class _ControllerActor:
    """The controller, and whoever hires workers for it."""

    def __init__(self) -> None:
        as_its_parent()
        self._ray = import_ray()
        kv = key_values()
        self._controller = Controller(
            saved=kv._internal_kv_get(_SAVED, namespace=NAMESPACE),
            save=lambda saved: kv._internal_kv_put(_SAVED, saved, namespace=NAMESPACE),
            expected=actor_names(WORKERS),
        )
        self._lock = threading.Lock()
        """The controller is for one thread at a time."""
        self._hired: dict[str, Any] = {}
        self._watch = WorkerWatch(self._ray)
        threading.Thread(target=self._look_after_workers, name="hire", daemon=True).start()

    def hand_over(self, work: Work) -> None:
        with self._lock:
            self._controller.hand_over(work)

    def renew(self, report: Report, version: int) -> Orders:
        with self._lock:
            return self._controller.renew(report, version)

    def status(self) -> dict[str, Any]:
        with self._lock:
            return self._controller.status()

    def _look_after_workers(self) -> None:
        while True:
            try:
                self._hire()
                for worker in self._watch.broken(self._hired, seconds=_HIRE_SECONDS):
                    with self._lock:
                        self._controller.broken(worker)
            except Exception:  # whatever Ray may raise while it is in trouble
                logger.exception("cannot look after workers")
                time.sleep(_HIRE_SECONDS)

    def _hire(self) -> None:
        hire(self._ray, _WorkerActor, self._hired, gpus=not self._controller.device.startswith("cpu"))


class _WorkerActor:
    """A worker; its threads do the work. As it is asynchronous, Ray calls it while a call goes on."""

    def __init__(self, name: str, *, device: str) -> None:
        as_its_parent()
        ray = import_ray()
        self._worker = CameraWorker(
            name,
            device=device,
            place=place_of(device),
            ask=Asking(ray, CONTROLLER, seconds=ANSWER_SECONDS, away=ControllerAwayError),
            address=ray.util.get_node_ip_address(),
        )
        self._worker.start()

    async def be_watched(self) -> None:
        """A call that goes on as long as it can: the connection breaks with this process."""
        await asyncio.sleep(WATCH_SECONDS)

    async def stop(self) -> None:
        await asyncio.to_thread(self._worker.stop)


def _controller(ray: Any) -> Any:
    """Raises UsageError."""
    try:
        return ray.get_actor(CONTROLLER, namespace=NAMESPACE)
    except ValueError:
        raise UsageError(
            "there is no controller on this cluster: hand it work with streamseg run --ray"
        ) from None
