"""``streamseg run``."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from streamseg.cli.address import ANY_CLUSTER, DEFAULT_ADDRESS, AddressCommand, parse_address
from streamseg.cli.logs import configure_logging
from streamseg.cli.overlay import names_in, overlay_keys, overlay_options
from streamseg.cli.say import say
from streamseg.cli.stopping import StopOnSignal
from streamseg.cli.watch import ConfigWatcher
from streamseg.config import RunConfig, parse_config, read_config, set_key
from streamseg.errors import UsageError

if TYPE_CHECKING:
    from streamseg.runtime.stats import RunStats, StreamStats

EXAMPLE = "Example: streamseg run street.mp4 -o street.masks.mp4 --results street.ndjson"
logger = logging.getLogger(__name__)


@click.command("run", cls=AddressCommand, epilog=EXAMPLE)
@click.argument("sources", nargs=-1, metavar="SOURCE...")
@click.option(
    "-c", "--config", type=click.Path(path_type=Path), metavar="FILE", help="YAML file; flags override it."
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Overlay video: file, folder, or template with {stream}; or rtsp://HOST/{stream} to push it to.",
)
@click.option(
    "--results", metavar="PATH", help="NDJSON results: file, folder, template with {stream}, or - for stdout."
)
@click.option("--redis", metavar="URL", help="Publish results to Redis streams; embedded starts a server.")
@click.option("--redis-overlays", is_flag=True, help="Publish JPEG overlays to Redis as well.")
@click.option("--weights", metavar="NAME_OR_PATH", help="Bundled name or .safetensors file.  [default: demo]")
@click.option(
    "--device",
    metavar="DEVICE",
    help="auto, cpu, cuda or cuda:N; several with commas: an engine on each.  [default: auto]",
)
@click.option("--precision", metavar="PRECISION", help="auto, fp32, bf16 or fp16.  [default: auto]")
@click.option("--classes", metavar="NAMES", help="Keep only these classes, e.g. person,car.")
@click.option("--score", type=float, help="Keep instances of at least this score.  [default: 0.3]")
@click.option("--track/--no-track", default=None, help="Stable ids through time.  [default: track]")
@click.option(
    "--reconnect-attempts",
    type=int,
    metavar="N",
    help="Cameras: give up after so many new attempts in a row.  [default: never]",
)
@click.option(
    "--max-fps", type=float, metavar="N", help="Cameras: take at most so many frames a second, evenly."
)
@overlay_options
@click.option("--recursive", is_flag=True, help="Of folders, take what lies in their folders, too.")
@click.option("--start", type=float, metavar="S", help="Recorded files: begin at this second.")
@click.option("--end", type=float, metavar="S", help="Recorded files: end before this second.")
@click.option("--stride", type=int, metavar="N", help="Recorded files: every Nth frame.")
@click.option(
    "--view",
    is_flag=False,
    flag_value=DEFAULT_ADDRESS,
    metavar="[HOST:PORT]",
    help=f"Live page in the browser.  [default: {DEFAULT_ADDRESS}]",
)
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any config key by its dotted path."
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value=ANY_CLUSTER,
    metavar="[HOST:PORT]",
    help=f"Hand cameras, or files, to a Ray cluster, which goes on by itself.  [default: {ANY_CLUSTER}]",
)
@click.option("--resume", is_flag=True, help="Go on where an interrupted run over the same files stopped.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@click.option("--log-level", default="warning", show_default=True, help="debug, info, warning or error.")
@click.option("--log-json", is_flag=True, help="Log lines as JSON.")
def run(
    *,
    sources: tuple[str, ...],
    config: Path | None,
    assignments: tuple[str, ...],
    ray: str | None,
    resume: bool,
    no_progress: bool,
    log_level: str,
    log_json: bool,
    **flags: Any,
) -> int:
    """Segment cameras and recorded video.

    A SOURCE is a video or picture, a folder or glob of them, an rtsp://, rtmp:// or http:// URL, or
    /dev/videoN.

    Exit codes: 0 done, 1 the run failed, 2 wrong usage, config or weights, 130 and 143 interrupted.
    """
    configure_logging(log_level, as_json=log_json)

    def load() -> RunConfig:
        content = read_config(config) if config else {}
        _apply(content, sources, flags)
        for assignment in assignments:
            set_key(content, assignment)
        return parse_config(content, where=str(config) if config else "command line")

    if ray is not None:
        from streamseg.cli.cluster import run_on_cluster

        return run_on_cluster(load(), ray, resume=resume, progress=not no_progress and sys.stderr.isatty())
    watcher = ConfigWatcher(config, load) if config else None
    log_options = ["--log-level", log_level, *(["--log-json"] if log_json else [])]
    return _run(load(), watcher, resume=resume, progress=not no_progress, log_options=log_options)


def _apply(content: dict[str, Any], sources: Sequence[str], flags: dict[str, Any]) -> None:
    """Let the command line override the plain values of a config file."""
    if sources:
        content["streams"] = [{"url": source} for source in sources]
    of_streams = ("start", "end", "stride", "reconnect_attempts", "max_fps")
    _override_streams(content, {key: flags[key] for key in of_streams})
    _override_streams(content, {"recursive": flags["recursive"] or None})
    model = {key: flags[key] for key in ("weights", "precision", "score")}
    device = flags["device"]
    model["device"] = device if device is None or "," not in device else names_in(device)
    classes = flags["classes"]
    model["classes"] = None if classes is None else names_in(classes)
    _override(content, "model", model)
    _override(content, "tracking", {"enabled": flags["track"]})
    if flags["view"] is not None:
        host, port = parse_address(flags["view"], option="--view")
        _override(content, "view", {"enabled": True, "host": host, "port": port})
    _override(content, "overlay", overlay_keys(flags["overlay"], flags["blur"]))
    _add_outputs(
        content,
        video=flags["output"],
        ndjson=flags["results"],
        redis=flags["redis"],
        overlays=flags["redis_overlays"],
    )


def _override(content: dict[str, Any], section: str, values: dict[str, Any]) -> None:
    given = {key: value for key, value in values.items() if value is not None}
    present = content.get(section) or {}
    if given and isinstance(present, dict):  # what is no mapping is named when the whole is validated
        content[section] = present | given


def _override_streams(content: dict[str, Any], values: dict[str, Any]) -> None:
    given = {key: value for key, value in values.items() if value is not None}
    if given and isinstance(content.get("streams"), list):
        content["streams"] = [s | given if isinstance(s, dict) else s for s in content["streams"]]


def _add_outputs(
    content: dict[str, Any], *, video: str | None, ndjson: str | None, redis: str | None, overlays: bool
) -> None:
    """Outputs named on the command line replace those of their type in the file."""
    if overlays and redis is None:
        raise UsageError("--redis-overlays needs --redis URL")
    given: list[dict[str, Any]] = []
    if video is not None and video.lower().startswith(("rtsp://", "rtsps://")):
        given.append({"type": "push", "url": video})
    elif video is not None:
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


def _run(
    config: RunConfig,
    watcher: ConfigWatcher | None,
    *,
    resume: bool,
    progress: bool,
    log_options: Sequence[str],
) -> int:
    stop = StopOnSignal()
    if watcher is not None:
        _reload_on_signal(watcher)
    from streamseg.cli.progress import Progress
    from streamseg.cli.start import start
    from streamseg.runtime.reload import Reloader

    if not config.outputs and not resume and not config.view.enabled:
        logger.warning("no output: add -o VIDEO, --results FILE or --redis URL to keep the results")
    with (
        Progress(show=progress and sys.stderr.isatty()) as bar,
        start(config, bar, resume=resume, log_options=log_options) as run,
    ):
        stop.work = run
        if watcher is not None:
            watcher.start(Reloader(config, run, resume=resume))
        run.join()
        if watcher is not None:
            watcher.stop()
    run.raise_first_error()
    code = _report(run.stats, stop)
    if run.stuck:
        os._exit(code)  # else Python would wait for the model
    return code


def _report(stats: RunStats, stop: StopOnSignal) -> int:
    """Say what was done and what failed; returns the exit code."""
    labels = ", ".join(f"{count} {label}" for label, count in stats.labels.most_common()) or "none"
    rate = stats.frames / stats.seconds if stats.seconds else 0.0
    say(f"{stats.frames} frames, {rate:.1f} frames/s, instances: {labels}")
    if stats.finished_before:
        say(f"{stats.finished_before} files were finished before")
    for name, stream in stats.streams.items():
        for line in _remarks(stream):
            say(f"{name}: {line}")
    for note in stats.notes:
        say(note)
    for error in stats.errors:
        say(f"error: {error}")
    if stop.signal is not None:
        return 128 + stop.signal
    return 1 if stats.errors else 0


def _remarks(stream: StreamStats) -> Iterator[str]:
    if stream.kept:
        yield f"{stream.kept} results are from before"
    if stream.dropped.total():
        yield "dropped " + ", ".join(f"{n} {reason}" for reason, n in stream.dropped.items() if n)
    if stream.concealed and not stream.lost:  # else the error says it
        yield f"{stream.concealed} frames were damaged and patched up by the decoder"


def _reload_on_signal(watcher: ConfigWatcher) -> None:
    def ask(_number: int, _frame: FrameType | None) -> None:
        watcher.asked = True

    signal.signal(signal.SIGHUP, ask)
