"""``streamseg run``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamseg.cli.logs import configure_logging
from streamseg.config import RunConfig, parse_config, read_config, set_key
from streamseg.errors import UsageError

if TYPE_CHECKING:
    from streamseg.pipeline import Pipeline, Summary

EXAMPLE = "Example: streamseg run street.mp4 -o street.masks.mp4 --results street.ndjson"
logger = logging.getLogger(__name__)


def run(  # noqa: PLR0917  the command line is made from this signature
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Files, folders, globs, rtsp:// rtmp:// http:// URLs, /dev/videoN.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="YAML file; flags override it.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", help="Overlay video: file, folder, or template with {stream}."),
    ] = None,
    results: Annotated[
        str | None,
        typer.Option(help="NDJSON results: file, folder, template with {stream}, or - for stdout."),
    ] = None,
    redis: Annotated[str | None, typer.Option(metavar="URL", help="Publish to Redis streams.")] = None,
    redis_overlays: Annotated[
        bool, typer.Option("--redis-overlays", help="Publish JPEG overlays as well.")
    ] = False,
    weights: Annotated[
        str | None, typer.Option(help="Bundled name or .safetensors file.  [default: demo]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.  [default: auto]")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, fp32, bf16 or fp16.  [default: auto]")] = None,
    classes: Annotated[str | None, typer.Option(help="Keep only these, e.g. person,car.")] = None,
    score: Annotated[
        float | None, typer.Option(help="Keep instances of at least this score.  [default: 0.3]")
    ] = None,
    track: Annotated[
        bool | None, typer.Option("--track/--no-track", help="Stable ids through time.  [default: track]")
    ] = None,
    start: Annotated[float | None, typer.Option(help="Recorded files: first second.")] = None,
    end: Annotated[float | None, typer.Option(help="Recorded files: last second.")] = None,
    stride: Annotated[int | None, typer.Option(help="Recorded files: every Nth frame.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any config key by its dotted path; repeatable."),
    ] = None,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "warning",
    log_json: Annotated[bool, typer.Option("--log-json", help="Log lines as JSON.")] = False,
) -> int:
    """Segment cameras and recorded video.

    Exit codes: 0 done, 1 the run failed, 2 wrong usage, config or weights, 130/143 interrupted.
    """
    configure_logging(log_level, as_json=log_json)
    content = read_config(config) if config else {}
    if sources:
        content["streams"] = [{"url": source} for source in sources]
    _override_streams(content, {"start": start, "end": end, "stride": stride})
    model: dict[str, Any] = {"weights": weights, "device": device, "precision": precision, "score": score}
    model["classes"] = [c.strip() for c in classes.split(",")] if classes else None
    _override(content, "model", model)
    _override(content, "tracking", {"enabled": track})
    _add_outputs(content, video=output, ndjson=results, redis=redis, overlays=redis_overlays)
    for assignment in assignments or ():
        set_key(content, assignment)
    return _run(
        parse_config(content, where=str(config) if config else "command line"), progress=not no_progress
    )


def _override(content: dict[str, Any], section: str, values: dict[str, Any]) -> None:
    given = {key: value for key, value in values.items() if value is not None}
    if given:
        content[section] = (content.get(section) or {}) | given


def _override_streams(content: dict[str, Any], values: dict[str, Any]) -> None:
    given = {key: value for key, value in values.items() if value is not None}
    if given and isinstance(content.get("streams"), list):
        content["streams"] = [stream | given for stream in content["streams"] if isinstance(stream, dict)]


def _add_outputs(
    content: dict[str, Any], *, video: str | None, ndjson: str | None, redis: str | None, overlays: bool
) -> None:
    """Outputs named on the command line replace those of their type in the file."""
    if overlays and redis is None:
        raise UsageError("--redis-overlays needs --redis URL")
    given: list[dict[str, Any]] = []
    if video is not None:
        given.append({"type": "video", "path": video})
    if ndjson is not None:
        given.append({"type": "ndjson", "path": ndjson})
    if redis is not None:
        given.append({"type": "redis", "url": redis, "overlays": overlays})
    if given:
        types = {output["type"] for output in given}
        kept = [
            o for o in content.get("outputs") or [] if not (isinstance(o, dict) and o.get("type") in types)
        ]
        content["outputs"] = kept + given


def _run(config: RunConfig, *, progress: bool) -> int:
    stop = _StopOnSignal()
    from streamseg.api import build_pipeline
    from streamseg.cli.progress import Progress

    if not config.outputs:
        logger.warning("no output: add -o VIDEO, --results FILE or --redis URL to keep the results")
    with Progress(show=progress and sys.stderr.isatty()) as bar:
        pipeline = build_pipeline(config, observe=bar.observe)
        with pipeline:
            stop.pipeline = pipeline
            pipeline.join()
    pipeline.raise_first_error()
    return _report(pipeline.summary, stop)


def _report(summary: Summary, stop: _StopOnSignal) -> int:
    """Say what was done and what failed; returns the exit code."""
    labels = ", ".join(f"{count} {label}" for label, count in summary.labels.most_common()) or "none"
    rate = summary.frames / summary.seconds if summary.seconds else 0.0
    sys.stderr.write(f"{summary.frames} frames, {rate:.1f} frames/s, instances: {labels}\n")
    for name, stream in summary.streams.items():
        if stream.dropped:
            reasons = ", ".join(f"{count} {reason}" for reason, count in stream.dropped.items())
            sys.stderr.write(f"{name}: dropped {reasons}\n")
    for error in summary.errors:
        sys.stderr.write(f"error: {error}\n")
    if stop.signal is not None:
        return 128 + stop.signal
    return 1 if summary.errors else 0


class _StopOnSignal:
    """The first SIGINT or SIGTERM drains the pipeline and finishes its files, the second aborts."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.pipeline: Pipeline | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None or self.pipeline is None:
            # Nothing has begun, or the user is in earnest. The workers end with this process.
            os._exit(128 + number)
        self.signal = number
        sys.stderr.write("stopping: finishing what was decoded; once more to abort\n")
        self.pipeline.stop()
