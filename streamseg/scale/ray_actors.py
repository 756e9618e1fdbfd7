"""What any work on a Ray cluster needs: joining it, actors that have names, and a worker for every device.

A worker belongs to one device of one node, so that Ray is asked for that node, and neither to spread
workers nor to match labels: there is one for every device wherever it is, and one that dies must begin again
on its own device, not beside another worker. When the node is gone there is no device left for it; its
work goes to other workers.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from streamseg.errors import RunError, UsageError, mask_password

NAMESPACE = "streamseg"
WORKERS = "worker-"
"""With that the names of devices' posts begin."""
ON_HEAD = {"node:__internal_head__": 0.001}
"""Of a resource that the head alone has: the head is there as long as the cluster is, also if it is another
machine by now. A "soft" affinity was seen to end on a worker's node, whose loss Ray notices after 13 s."""


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


def hand_over_to(kind: type, name: str, address: str, work: object) -> Any:
    """Give work to the detached actor of a name, which is started if there is none; returns its answer.

    ``kind``: the actor's class, whose method ``hand_over`` takes the work. Raises UsageError or RunError.
    """
    ray = connect(address)
    actor = ray.remote(kind).options(
        name=name,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        num_cpus=0,
        resources=ON_HEAD,
    )
    try:
        return ray.get(actor.remote().hand_over.remote(work), timeout=60)
    except ray.exceptions.RayError as error:
        raise RunError(f"the cluster at {address} does not take the work: {one_line(error)}") from None


class Asking:
    """Asks the actor of a name, whichever it is by then."""

    def __init__(self, ray: Any, name: str, *, seconds: float, away: type[Exception]) -> None:
        """``away`` is raised if there is no answer within so many ``seconds``."""
        self._ray, self._name, self._seconds, self._away = ray, name, seconds, away
        self._actor: Any = None

    def __call__(self, report: object, version: int) -> Any:
        """What its method ``renew`` returns. Raises ``away``."""
        ray = self._ray
        try:
            if self._actor is None:
                self._actor = ray.get_actor(self._name, namespace=NAMESPACE)
            return ray.get(self._actor.renew.remote(report, version), timeout=self._seconds)
        except (ray.exceptions.RayError, ValueError) as error:
            self._actor = None
            raise self._away(one_line(error)) from None


def hire(ray: Any, kind: type, hired: dict[str, Any], *, gpus: bool, prefix: str = "") -> None:
    """Start a worker of a class for each device that has none in ``hired``, and that can have one."""
    for node in ray.nodes():
        if node["Alive"]:
            for post, options in posts(node, gpus=gpus):
                if (name := prefix + post) not in hired:
                    hired[name] = _start_worker(ray, kind, name, node["NodeID"], options)


def _start_worker(ray: Any, kind: type, name: str, node: str, options: dict[str, float]) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

    actor = ray.remote(kind).options(
        name=name,
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        max_restarts=-1,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node, soft=False),
        **options,
    )
    return actor.remote(name, device="cuda" if options.get("num_gpus") else "cpu")


def end_workers(ray: Any, prefix: str, *, seconds: float) -> int:
    """Stop and remove workers whose names begin so, also of a former owner; returns how many there were."""
    workers = []
    for name in actor_names(prefix):
        with suppress(ValueError):  # gone meanwhile
            workers.append(ray.get_actor(name, namespace=NAMESPACE))
    endings = [worker.stop.remote() for worker in workers]
    ray.wait(endings, num_returns=len(endings), timeout=seconds)
    for worker in workers:
        ray.kill(worker)
    return len(workers)


def place_of(device: str) -> str:
    """Machine and device of this process, for people."""
    place = f"{socket.gethostname()}, {device}"
    return place if device == "cpu" else f"{place} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"


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
        yield f"{WORKERS}{node['NodeID'][:16]}-{k}", reserved


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
