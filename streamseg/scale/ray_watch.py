"""Notices that a worker of a cluster is gone: a call to it goes on all the time, and ends with its process.

Ray itself declares a node dead after 10 s and more without a sign of it; a connection breaks at once when the
process at its other end is gone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

WATCH_SECONDS = 60.0
"""A call ends by itself after that: a worker must not keep those of former controllers for ever."""


class WorkerWatch:
    """A call to each worker. One thread at a time."""

    def __init__(self, ray: Any) -> None:
        """``ray``: the module, connected."""
        self._ray = ray
        self._calls: dict[Any, str] = {}
        """Workers by the call that goes on."""

    def broken(self, workers: Mapping[str, Any], *, seconds: float) -> list[str]:
        """Wait so many seconds; returns the workers whose call has failed meanwhile.

        ``workers``: handles of all actors by name; the call is their method ``be_watched``.
        """
        for name in workers.keys() - set(self._calls.values()):
            self._calls[workers[name].be_watched.remote()] = name
        if not self._calls:
            time.sleep(seconds)
            return []
        # For all of them, so that it takes the whole time: a call to a node that is gone fails at once.
        ended, _ = self._ray.wait(list(self._calls), num_returns=len(self._calls), timeout=seconds)
        if len(ended) == len(self._calls):
            time.sleep(seconds)
        return [name for call in ended if (name := self._calls.pop(call)) and self._has_failed(call)]

    def _has_failed(self, call: Any) -> bool:
        try:
            self._ray.get(call)
        except self._ray.exceptions.RayError:
            return True
        return False
