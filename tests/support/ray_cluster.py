"""A Ray cluster on this machine, whose nodes can be killed, stopped and added, with the stand-in model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.support.program import ROOT

_STORE = 80 << 20
"""Bytes of a node's object store: no frame and no result is ever in it."""


class RunningCluster:
    """A head that works at nothing itself, and nodes. This process is connected to it, too."""

    def __init__(self, nodes: int) -> None:
        from ray.cluster_utils import Cluster

        from streamseg.scale.ray_actors import connect

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        for _ in range(nodes):
            self._cluster.add_node(wait=False, num_cpus=1, object_store_memory=_STORE)
        self._cluster.wait_for_nodes(timeout=120)
        self._ray = connect(self.address)

    def nodes(self) -> list[str]:
        """By the first letters of their workers' ids; without the head."""
        others = (node for node in self._cluster.list_all_nodes() if node is not self._cluster.head_node)
        return [_first_letters(node) for node in others]

    def add_node(self) -> None:
        self._cluster.add_node(num_cpus=1, object_store_memory=_STORE)

    def kill_node(self, worker: str) -> None:
        """Without grace: the one of that worker."""
        self._cluster.remove_node(self._node_of(worker), allow_graceful=False)

    def signal_node(self, worker: str, number: signal.Signals) -> None:
        """To all processes of the worker's node, its engine and its decode workers among them."""
        for pid in _tree(self._node_of(worker).all_processes["raylet"][0].process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill_head(self) -> None:
        self._ray.shutdown()
        head = self._cluster.head_node
        head.kill_raylet()
        head.kill_gcs_server()

    def kill_controller(self) -> None:
        from streamseg.scale.ray_actors import NAMESPACE
        from streamseg.scale.ray_cluster import CONTROLLER

        self._ray.kill(self._ray.get_actor(CONTROLLER, namespace=NAMESPACE))

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """``streamseg``, in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "streamseg", *map(str, arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    def status(self) -> dict[str, Any]:
        from streamseg.scale.ray_cluster import cluster_status

        return cluster_status(self.address)

    def stop(self) -> None:
        self._ray.shutdown()
        self._cluster.shutdown()

    def _node_of(self, worker: str) -> Any:
        nodes = self._cluster.list_all_nodes()
        return next(node for node in nodes if worker.startswith(_first_letters(node)))


def _first_letters(node: Any) -> str:
    return f"worker-{node.node_id[:16]}"


def owners(status: dict[str, Any]) -> dict[str, str]:
    """Of cameras that are being read."""
    return {c["stream"]: c["worker"] for c in status["cameras"] if c["epoch"] is not None}


@contextmanager
def running_cluster(nodes: int) -> Iterator[RunningCluster]:
    """Everything that it starts has the stand-in model."""
    path = os.pathsep.join([str(ROOT / "tests" / "support" / "stand_in"), str(ROOT)])
    environment = {
        "PYTHONPATH": path,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "120",  # a machine with a load of 30 was seen to need more than 30
    }
    with patch.dict(os.environ, environment):
        cluster = RunningCluster(nodes)
        try:
            yield cluster
        finally:
            cluster.stop()


def until(
    condition: Callable[[dict[str, Any]], bool], cluster: RunningCluster, *, seconds: float = 120.0
) -> dict[str, Any]:
    """The status as soon as it is so."""
    end = time.monotonic() + seconds
    while not condition(status := cluster.status()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {status}")
        time.sleep(0.1)
    return status


def _tree(pid: int) -> list[int]:
    """A process and all that it has started, and these."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    found = [int(child) for task in children for child in task.read_text().split()]
    return [pid, *(one for child in found for one in _tree(child))]
