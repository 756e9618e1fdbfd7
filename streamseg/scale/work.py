"""A configuration as it is handed to a cluster, whose machines have other folders than this one."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from streamseg.config import RedisConfig, RunConfig
from streamseg.errors import UsageError
from streamseg.redis.embedded import EMBEDDED
from streamseg.runtime.build import build_streams
from streamseg.web.access import Access


class Work(msgspec.Struct, frozen=True):
    """What a cluster is to do."""

    config: dict[str, Any]
    """Keys of :class:`streamseg.config.RunConfig`, without the streams."""
    streams: dict[str, dict[str, Any]]
    """Keys of :class:`streamseg.config.StreamConfig` by stream id."""


def work_of(config: RunConfig) -> Work:
    """The work that a configuration of cameras describes. Raises UsageError if a cluster cannot do it.

    Recordings are for :func:`streamseg.scale.file_work.file_work_of`.
    """
    found = build_streams(config)
    for source, _ in found:
        if source.recorded:
            raise UsageError(f"these should be cameras, but {source.shown} is a recording")
    if config.view.enabled:
        raise UsageError("view.enabled: pictures of a cluster are on many machines; leave it out")
    if config.metrics.enabled:
        Access(config.metrics.host, config.metrics.token).check(host="metrics.host", token="metrics.token")
    if any(isinstance(o, RedisConfig) and o.url == EMBEDDED for o in config.outputs):
        raise UsageError("outputs: redis: embedded is of one machine; name one all machines reach")
    if not isinstance(config.model.device, str):
        raise UsageError("model.device: with --ray every device has its worker; write auto, cpu or cuda")
    base = config.model_dump(mode="json") | {"streams": []}
    # Engines may share a machine: each takes a free port, and its report says which.
    base["metrics"]["port"] = 0
    base["outputs"] = [_absolute(output) for output in base["outputs"]]
    if os.path.exists(config.model.weights):
        base["model"]["weights"] = os.path.abspath(config.model.weights)
    streams = {
        source.id: stream.model_dump(mode="json") | {"id": source.id}
        for stream, (source, _) in zip(config.streams, found, strict=True)
    }
    return Work(base, streams)


def _absolute(output: dict[str, Any]) -> dict[str, Any]:
    """Paths mean the same on every machine. Raises UsageError."""
    if output.get("path") == "-":
        raise UsageError("outputs: a cluster has no standard output; write results to a folder or to Redis")
    paths = {
        # abspath takes the slash away that says "a folder".
        key: os.path.abspath(output[key]) + ("/" if output[key].endswith("/") else "")
        for key in ("path", "password_file")
        if isinstance(output.get(key), str)
    }
    return output | paths
