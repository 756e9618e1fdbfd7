"""Streamseg on a Ray cluster: a detached controller, and a worker for every device.

Ray starts the workers and starts them again, and carries reports and orders once a second. Frames and results
never pass through it: each worker's engine reads its cameras and writes its outputs itself.

A worker belongs to one device of one node, so that Ray is asked for that node, and neither to spread
workers nor to match labels: there is one for every device wherever it is, and one that dies must begin again
on its own device, not beside another worker. When the node is gone there is no device left for it; its
cameras go to other workers.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from streamseg.errors import RunError, UsageError, mask_password
from streamseg.scale.camera_worker import CameraWorker
from streamseg.scale.controller import Controller
from streamseg.scale.orders import ControllerAwayError, Orders
from streamseg.scale.precedence import as_its_parent
from streamseg.scale.ray_watch import WATCH_SECONDS, WorkerWatch
from streamseg.scale.roster import ANSWER_SECONDS, Report
from streamseg.scale.work import Work

logger = logging.getLogger(__name__)

NAMESPACE = "streamseg"
CONTROLLER = "controller"
_SAVED = b"streamseg-work"
_WORKERS = "worker-"
ON_HEAD = {"node:__internal_head__": 0.001}
"""Of a resource that the head alone has: the head is there as long as the cluster is, also if it is another
machine by now. A "soft" affinity was seen to end on a worker's node, whose loss Ray notices after 13 s."""
_HIRE_SECONDS = 1.0
"""Between two looks for nodes that have come."""
_STOP_SECONDS = 20.0


def import_ray() -> Any:
    """Ray. Raises UsageError if it is not installed."""
    try:
        import ray  # noqa: PLC0415  only where a cluster is wanted: it takes a second
    except ImportError:
        raise UsageError(
            "a cluster needs Ray, which is not installed: pip install 'streamseg[ray]'"
        ) from None
    return ray


def connect(address: str) -> Any:
    """Join a cluster; returns Ray. ``address``: HOST:PORT, or ``auto`` for the cluster of this machine.

    Raises UsageError: Ray is not installed, or there is no cluster.
    """
    ray = import_ray()
    if ray.is_initialized():
        return ray
    _check_listens(address)
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, ray.exceptions.RayError) as error:
        raise _no_cluster(address, mask_password(one_line(error))) from None
    return ray


def _check_listens(address: str) -> None:
    """Ray would try for minutes to reach a cluster that is not there. Raises UsageError."""
    host, _, port = address.rpartition(":")
    if not port.isdecimal():
        return  # "auto", or something that Ray has to make sense of
    try:
        socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, getattr(error, "strerror", None) or str(error)) from None


def _no_cluster(address: str, why: str) -> UsageError:
    return UsageError(f"no Ray cluster at {address}: {why}; start one with ray start --head")


def hand_over(address: str, work: Work) -> None:
    """Give work to a cluster, which does it from then on, whatever becomes of this process.

    Raises UsageError or RunError.
    """
    ray = connect(address)
    actor = ray.remote(_ControllerActor).options(
        name=CONTROLLER,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        num_cpus=0,
        resources=ON_HEAD,
    )
    try:
        ray.get(actor.remote().hand_over.remote(work), timeout=60)
    except ray.exceptions.RayError as error:
        raise RunError(f"the cluster at {address} does not take the work: {one_line(error)}") from None


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
    workers = []
    for name in actor_names(_WORKERS):
        with suppress(ValueError):  # gone meanwhile
            workers.append(ray.get_actor(name, namespace=NAMESPACE))
    endings = [worker.stop.remote() for worker in workers]
    ray.wait(endings, num_returns=len(endings), timeout=_STOP_SECONDS)
    for worker in workers:
        ray.kill(worker)
    key_values()._internal_kv_del(_SAVED, namespace=NAMESPACE)
    return len(workers)


class _ControllerActor:
    """The controller, and whoever hires workers for it."""

    def __init__(self) -> None:
        as_its_parent()
        self._ray = import_ray()
        kv = key_values()
        self._controller = Controller(
            saved=kv._internal_kv_get(_SAVED, namespace=NAMESPACE),
            save=lambda saved: kv._internal_kv_put(_SAVED, saved, namespace=NAMESPACE),
            expected=actor_names(_WORKERS),
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
        """A worker for each device that has none, and that can have one."""
        for node in self._ray.nodes():
            if node["Alive"]:
                for name, options in posts(node, gpus=not self._controller.device.startswith("cpu")):
                    if name not in self._hired:
                        self._hired[name] = self._worker(name, node["NodeID"], options)

    def _worker(self, name: str, node: str, options: dict[str, float]) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        actor = self._ray.remote(_WorkerActor).options(
            name=name,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False),
            **options,
        )
        return actor.remote(name, device="cuda" if options.get("num_gpus") else "cpu")


class _WorkerActor:
    """A worker; its threads do the work. As it is asynchronous, Ray calls it while a call goes on."""

    def __init__(self, name: str, *, device: str) -> None:
        as_its_parent()
        ray = import_ray()
        place = f"{socket.gethostname()}, {device}"
        if device != "cpu":
            place += f" {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"
        address = ray.util.get_node_ip_address()
        self._worker = CameraWorker(name, device=device, place=place, ask=_Asking(ray), address=address)
        self._worker.start()

    async def be_watched(self) -> None:
        """A call that goes on as long as it can: the connection breaks with this process."""
        await asyncio.sleep(WATCH_SECONDS)

    async def stop(self) -> None:
        await asyncio.to_thread(self._worker.stop)


class _Asking:
    """Asks the controller, whichever it is by then."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._controller: Any = None

    def __call__(self, report: Report, version: int) -> Orders:
        ray = self._ray
        try:
            if self._controller is None:
                self._controller = ray.get_actor(CONTROLLER, namespace=NAMESPACE)
            orders: Orders = ray.get(self._controller.renew.remote(report, version), timeout=ANSWER_SECONDS)
        except (ray.exceptions.RayError, ValueError) as error:
            self._controller = None
            raise ControllerAwayError(one_line(error)) from None
        return orders


def posts(node: dict[str, Any], *, gpus: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """The workers that a node can have: a name, and what Ray is to reserve for it.

    Ray sets the number of threads of a process by the processors that are reserved for it.
    """
    resources = node["Resources"]
    devices = int(resources.get("GPU", 0)) if gpus else 0
    cpus = int(resources.get("CPU", 0))
    for k in range(devices or min(cpus, 1)):
        reserved: dict[str, float] = {"num_cpus": cpus // (devices or 1)}
        if devices:
            reserved["num_gpus"] = 1
        yield f"{_WORKERS}{node['NodeID'][:16]}-{k}", reserved


def _controller(ray: Any) -> Any:
    """Raises UsageError."""
    try:
        return ray.get_actor(CONTROLLER, namespace=NAMESPACE)
    except ValueError:
        raise UsageError(
            "there is no controller on this cluster: hand it work with streamseg run --ray"
        ) from None


def actor_names(prefix: str) -> list[str]:
    """Of ours that begin so."""
    from ray.util import list_named_actors  # noqa: PLC0415

    named = list_named_actors(all_namespaces=True)
    return [
        actor["name"]
        for actor in named
        if actor["namespace"] == NAMESPACE and actor["name"].startswith(prefix)
    ]


def key_values() -> Any:
    """Where Ray keeps small things as long as the cluster lives, and actors that are restarted find them.

    Arguments of an actor's constructor do not do: large ones are lost with the process that gave them.
    """
    from ray.experimental import internal_kv  # noqa: PLC0415

    return internal_kv


def one_line(error: BaseException) -> str:
    """The last line of a message: Ray's begin with a stack."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1][:200]
