"""Recordings on a Ray cluster: a detached queue, and a worker for every device while there is work.

As with cameras Ray starts the workers and starts them again, and carries reports and claims; frames and
results never pass through it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from streamseg.errors import RunError, UsageError
from streamseg.scale.file_controller import FileController
from streamseg.scale.file_orders import FileOrders, QueueAwayError
from streamseg.scale.file_queue import FileReport
from streamseg.scale.file_work import FileWork
from streamseg.scale.file_worker import FileWorker
from streamseg.scale.ray_actors import (
    NAMESPACE,
    Asking,
    connect,
    end_workers,
    hand_over_to,
    hire,
    import_ray,
    key_values,
    one_line,
    place_of,
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
        self._ray = connect(address)
        why = hand_over_to(_FilesActor, FILES, address, work)
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
        gpus = not self._controller.device.startswith("cpu")
        hire(self._ray, _FileWorkerActor, self._hired, gpus=gpus, prefix=_WORKERS)

    def _dismiss(self) -> None:
        """Nobody works any more, and the devices are free for others."""
        end_workers(self._ray, _WORKERS, seconds=_STOP_SECONDS)
        self._hired.clear()


class _FileWorkerActor:
    """A worker; its threads do the work."""

    def __init__(self, name: str, *, device: str) -> None:
        ask = Asking(import_ray(), FILES, seconds=_ANSWER_SECONDS, away=QueueAwayError)
        self._worker = FileWorker(name, device=device, place=place_of(device), ask=ask)
        self._worker.start()

    def stop(self) -> None:
        self._worker.stop()
