"""``streamseg render``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from streamseg.cli.logs import configure_logging
from streamseg.cli.overlay import overlay_keys, overlay_options
from streamseg.cli.say import say
from streamseg.cli.stopping import StopOnSignal
from streamseg.config import parse_config, read_config, set_key

EXAMPLE = "Example: streamseg render street.mp4 street.ndjson -o street.masks.mp4 --overlay masks,trails"


@click.command("render", epilog=EXAMPLE)
@click.argument("video", metavar="VIDEO")
@click.argument("results", type=click.Path(path_type=Path), metavar="RESULTS.ndjson")
@click.option("-o", "--output", required=True, metavar="PATH", help="The overlay video, an .mp4 file.")
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="YAML file of the run: what is painted, and where zones and lines are; flags override it.",
)
@overlay_options
@click.option("--stream", metavar="ID", help="Of a file with results of several streams, this one's.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any config key by its dotted path."
)
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@click.option("--log-level", default="warning", show_default=True, help="debug, info, warning or error.")
def render(
    *,
    video: str,
    results: Path,
    output: str,
    config: Path | None,
    overlay: str | None,
    blur: str | None,
    stream: str | None,
    assignments: tuple[str, ...],
    no_progress: bool,
    log_level: str,
) -> int:
    """Paint stored results on the video that they were made of.

    The same picture comes out as from the run that stored them, without a model; other parts may be painted
    than then. Frames that have no result are left out, as they were in the run's overlay.

    Exit codes: 0 done, 1 a file cannot be read or written, 2 wrong usage, or results of another video,
    130 and 143 interrupted.
    """
    configure_logging(log_level, as_json=False)
    content: dict[str, Any] = read_config(config) if config else {}
    painted = overlay_keys(overlay, blur)
    if painted:
        content["overlay"] = (content.get("overlay") or {}) | painted
    for assignment in assignments:
        set_key(content, assignment)
    settings = parse_config(content, where=str(config) if config else "command line")
    stop = StopOnSignal()
    from streamseg.cli.progress import Progress
    from streamseg.runtime.build import build_streams
    from streamseg.runtime.render import Render

    streams = build_streams(settings, refuse=lambda _: None) if settings.streams else []
    with Progress(show=not no_progress and sys.stderr.isatty()) as bar:
        work = stop.work = Render(
            video,
            results,
            output,
            stream=stream,
            overlay=settings.overlay,
            streams=streams,
            observe=bar.observe,
        )
        work.run()
    for line in work.remarks():
        say(line)
    say(f"{work.painted} frames in {work.path}")
    return 0 if stop.signal is None else 128 + stop.signal
