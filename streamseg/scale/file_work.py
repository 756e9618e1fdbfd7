"""Recordings as they are handed to a cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from streamseg.config import EventsConfig, NdjsonConfig, RunConfig, VideoConfig
from streamseg.errors import UsageError
from streamseg.outputs import NdjsonOutput
from streamseg.outputs.ndjson import STDOUT
from streamseg.runtime.build_outputs import build_output
from streamseg.runtime.checks import check_files_differ
from streamseg.scale.file_places import FileOutput, final_path, root
from streamseg.sources import Source

SET_ASIDE = "set-aside.jsonl"
"""Beside the results: a line for each file that was given up, with its reason."""


class FileWork(msgspec.Struct, frozen=True):
    """What a cluster is to work off: a run whose paths mean the same on every machine."""

    config: dict[str, Any]
    """Keys of :class:`streamseg.config.RunConfig`; folders of outputs end in a slash."""
    several: bool
    """Whether outputs are for more than one stream."""
    set_aside: str
    """Path of the list of files that were set aside."""


def file_work_of(config: RunConfig, sources: Sequence[Source]) -> FileWork:
    """The work that a configuration describes. ``sources``: all of it.

    Raises UsageError if a cluster cannot do it.
    """
    for section in ("view", "metrics"):
        if getattr(config, section).enabled:
            raise UsageError(f"{section}.enabled: each engine of a cluster would serve its own; leave it out")
    if not isinstance(config.model.device, str):
        raise UsageError("model.device: with --ray every device has its worker; write auto, cpu or cuda")
    several = len(sources) > 1
    outputs = [_check_output(output, several=several) for output in config.outputs]
    results = [output for output in outputs if isinstance(output, NdjsonOutput)]
    if not results:
        raise UsageError("--ray goes by the results in NDJSON files: it needs --results FILE or FOLDER")
    check_files_differ(sources, outputs)
    content = config.model_dump(mode="json", exclude_defaults=True)
    content["outputs"] = [
        section | {"path": _absolute(section["path"], output, sources[0].id)}
        for section, output in zip(content["outputs"], outputs, strict=True)
    ]
    for stream in content["streams"]:
        if "://" not in stream["url"]:
            stream["url"] = os.path.abspath(os.path.expanduser(stream["url"]))
    if os.path.exists(config.model.weights):
        content.setdefault("model", {})["weights"] = os.path.abspath(config.model.weights)
    first = next(o["path"] for o in content["outputs"] if o["type"] == "ndjson")
    return FileWork(content, several, str(root(first) / SET_ASIDE))


def _check_output(config: object, *, several: bool) -> FileOutput:
    """The output of a section. Raises UsageError."""
    if not isinstance(config, NdjsonConfig | VideoConfig | EventsConfig):
        kind = getattr(config, "type", "")
        raise UsageError(
            f"outputs: {kind}: with --ray recordings are written to files; what was sent could not be taken "
            "back when a worker dies"
        )
    if config.path == STDOUT:
        raise UsageError("outputs: a cluster has no standard output; write results to a folder")
    output = build_output(config, several=several)
    assert isinstance(output, FileOutput)
    return output


def _absolute(template: str, output: FileOutput, stream: str) -> str:
    """The template on any machine: a folder ends in a slash. Raises UsageError."""
    names_files = "{stream}" in template or final_path(output, stream) == Path(template)
    return os.path.abspath(template) + ("" if names_files and not template.endswith("/") else "/")


def check_recorded(sources: Sequence[Source]) -> bool:
    """Whether all are recordings; False if none is. Raises UsageError if some are."""
    recorded = [source for source in sources if source.recorded]
    if recorded and len(recorded) < len(sources):
        live = next(source for source in sources if not source.recorded)
        raise UsageError(
            f"--ray: {recorded[0].shown} is a recording and {live.shown} a camera: hand them over one kind "
            "at a time"
        )
    return bool(recorded)
