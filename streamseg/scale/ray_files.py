"""Recordings on a Ray cluster: a detached queue, and a worker for every device while there is work.

As with cameras Ray starts the workers and starts them again, and carries reports and claims; frames and
results never pass through it.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from streamseg.errors import RunError, UsageError
from streamseg.scale.file_controller import FileController
from streamseg.scale.file_queue import FileReport
from streamseg.scale.file_work import FileWork
from streamseg.scale.file_worker import FileOrders, FileWorker, QueueAwayError
from streamseg.scale.ray_cluster import (
    NAMESPACE,
    ON_HEAD,
    actor_names,
    connect,
    import_ray,
    key_values,
    one_line,
    posts,
)

logger = logging.getLogger(__name__)

FILES = "files"
_WORKERS = "files-"
_SAVED = "streamseg-files-"
_ANSWER_SECONDS = 5.0
"""For a worker to hear from the queue."""
_TURN_SECONDS = 1.0
_STOP_SECONDS = 20.0
_LOOK_SECONDS = 0.5
"""Between two looks of the command at how it goes."""
_AWAY_SECONDS = 120.0
"""For Ray to start the queue again, which takes some seconds after its node is known to be gone."""

Status = dict[str, Any]
"""See :meth:`FileController.status`."""


class FilesOnRay:
    """Recordings that a cluster works off. It does so whatever becomes of this process."""

    def __init__(self, address: str, work: FileWork) -> None:
        """Hand them over. Raises UsageError or RunError."""
        self._ray = ray = connect(address)
        actor = ray.remote(_FilesActor).options(
            name=FILES,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            num_cpus=0,
            resources=ON_HEAD,
        )
        try:
            why = ray.get(actor.remote().hand_over.remote(work), timeout=60)
        except ray.exceptions.RayError as error:
            raise RunError(f"the cluster at {address} does not take the work: {one_line(error)}") from None
        if why:
            raise UsageError(why)

    def watch(self, told: Callable[[Status], object]) -> Status:
        """Wait for the end; ``told`` hears how it goes. Raises RunError if nobody can tell any more."""
        heard = time.monotonic()
        while True:
            try:
                status: Status = self._ray.get(self._queue().status.remote(), timeout=_AWAY_SECONDS / 4)
            except (self._ray.exceptions.RayError, ValueError) as error:
                if time.monotonic() - heard > _AWAY_SECONDS:
                    raise RunError(
                        f"the cluster gives no answer: {one_line(error)}; the same command goes on"
                    ) from None
            else:
                heard = time.monotonic()
                told(status)
                if not status or status["state"] in {"over", "stopped", "failed"}:
                    return status
            time.sleep(_LOOK_SECONDS)

    def stop(self) -> None:
        """End the work; what was done stays."""
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.get(self._queue().stop.remote(), timeout=_STOP_SECONDS)

    def _queue(self) -> Any:
        return self._ray.get_actor(FILES, namespace=NAMESPACE)


def files_status(ray: Any) -> Status:
    """How the recordings of a cluster do; empty if it has none. Raises RunError."""
    try:
        status: Status = ray.get(ray.get_actor(FILES, namespace=NAMESPACE).status.remote(), timeout=30)
    except ValueError:
        return {}
    except ray.exceptions.RayError as error:
        raise RunError(f"the queue of the cluster gives no answer: {one_line(error)}") from None
    return status


def stop_files(ray: Any) -> int:
    """End the work and remove everything of it; returns how many workers there were."""
    try:
        queue = ray.get_actor(FILES, namespace=NAMESPACE)
    except ValueError:
        return 0
    count = 0
    with suppress(ray.exceptions.RayError):
        count = ray.get(queue.end.remote(), timeout=2 * _STOP_SECONDS)
    ray.kill(queue)
    key_values()._internal_kv_del(_SAVED.encode(), del_by_prefix=True, namespace=NAMESPACE)
    return count


def _key(name: str) -> bytes:
    return (_SAVED + name).encode()


class _FilesActor:
    """The queue, and whoever hires workers for it."""

    def __init__(self) -> None:
        self._ray = import_ray()
        kv = key_values()
        self._controller = FileController(
            load=lambda name: kv._internal_kv_get(_key(name), namespace=NAMESPACE),
            save=lambda name, saved: kv._internal_kv_put(_key(name), saved, namespace=NAMESPACE),
        )
        self._hired: dict[str, Any] = {}
        self._turn = threading.Lock()
        threading.Thread(target=self._attend_always, name="attend", daemon=True).start()

    def hand_over(self, work: FileWork) -> str:
        return self._controller.hand_over(work)

    def renew(self, report: FileReport, version: int) -> FileOrders:
        return self._controller.renew(report, version)

    def status(self) -> Status:
        return self._controller.status()

    def stop(self) -> None:
        self._controller.stop()

    def end(self) -> int:
        """Stop, and wait for the workers; returns how many there were."""
        count = len(self._hired)
        self._controller.stop()
        with self._turn:
            self._attend()
        return count

    def _attend_always(self) -> None:
        while True:
            try:
                with self._turn:
                    self._attend()
            except Exception:  # whatever Ray may raise while it is in trouble
                logger.exception("cannot look after the workers")
            time.sleep(_TURN_SECONDS)

    def _attend(self) -> None:
        controller = self._controller
        controller.attend()
        if controller.wants_workers:
            self._hire()
        elif controller.finishing:
            self._dismiss()
            controller.close()

    def _hire(self) -> None:
        """A worker for each device that has none, and that can have one."""
        for node in self._ray.nodes():
            if node["Alive"]:
                for post, options in posts(node, gpus=not self._controller.device.startswith("cpu")):
                    name = _WORKERS + post
                    if name not in self._hired:
                        self._hired[name] = self._worker(name, node["NodeID"], options)

    def _worker(self, name: str, node: str, options: dict[str, float]) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        actor = self._ray.remote(_FileWorkerActor).options(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False),
            **options,
        )
        return actor.remote(name, device="cuda" if options.get("num_gpus") else "cpu")

    def _dismiss(self) -> None:
        """Nobody works any more, and the devices are free for others."""
        workers = []
        for name in actor_names(_WORKERS):  # also those that a former queue has hired
            with suppress(ValueError):  # gone meanwhile
                workers.append(self._ray.get_actor(name, namespace=NAMESPACE))
        endings = [worker.stop.remote() for worker in workers]
        self._ray.wait(endings, num_returns=len(endings), timeout=_STOP_SECONDS)
        for worker in workers:
            self._ray.kill(worker)
        self._hired.clear()


class _FileWorkerActor:
    """A worker; its threads do the work."""

    def __init__(self, name: str, *, device: str) -> None:
        ray = import_ray()
        place = f"{socket.gethostname()}, {device}"
        if device != "cpu":
            place += f" {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"
        self._worker = FileWorker(name, device=device, place=place, ask=_Asking(ray))
        self._worker.start()

    def stop(self) -> None:
        self._worker.stop()


class _Asking:
    """Asks the queue, whichever it is by then."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._queue: Any = None

    def __call__(self, report: FileReport, version: int) -> FileOrders:
        ray = self._ray
        try:
            if self._queue is None:
                self._queue = ray.get_actor(FILES, namespace=NAMESPACE)
            orders: FileOrders = ray.get(self._queue.renew.remote(report, version), timeout=_ANSWER_SECONDS)
        except (ray.exceptions.RayError, ValueError) as error:
            self._queue = None
            raise QueueAwayError(one_line(error)) from None
        return orders
