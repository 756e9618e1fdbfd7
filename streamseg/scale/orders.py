"""What the controller of a cluster says to a worker that reports to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streamseg.scale.roster import Report


class ControllerAwayError(Exception):
    """The controller gives no answer."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is to do from now on."""

    version: int
    """Of the configuration."""
    cameras: Mapping[str, int | None]
    """All that it is to read, and the newest epoch known of each."""
    streams: Mapping[str, dict[str, Any]]
    """Keys of :class:`streamseg.config.StreamConfig` of those that are news to the worker."""
    config: dict[str, Any] | None = None
    """Keys of the configuration without its streams, if the worker has another version."""
    began: float = 0.0
    """UNIX seconds when the cluster began with this work."""


Ask = Callable[[Report, int], Orders]
"""Gives a report and the version of the worker's configuration to the controller; raises
ControllerAwayError."""
