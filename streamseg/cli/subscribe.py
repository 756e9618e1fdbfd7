"""``streamseg subscribe``."""

import os
import sys
from typing import Any

import click

EXAMPLE = "Example: streamseg subscribe redis://localhost:6379/0 lobby | head -n 1"


@click.command("subscribe", epilog=EXAMPLE)
@click.argument("url")
@click.argument("streams", nargs=-1, metavar="[STREAM]...")
@click.option(
    "--from",
    "start",
    default="now",
    show_default=True,
    help="now, start (all that is retained) or an entry id.",
)
@click.option("--timeout", type=float, metavar="S", help="End after so many seconds without a result.")
@click.option("--group", metavar="NAME", help="Share the results with all subscribers of that group.")
@click.option("--consumer", metavar="NAME", help="Name in the group, kept over restarts.  [default: made up]")
@click.option(
    "--takeover-after",
    type=float,
    metavar="S",
    default=30.0,
    show_default=True,
    help="Seconds after which the others of the group do the work of one that has crashed.",
)
def subscribe(*, url: str, streams: tuple[str, ...], **options: Any) -> int:
    """Print the results that other processes publish to the Redis at URL, one JSON object per line.

    Without STREAM ids all streams are followed. Subscribers of one --group share the results: each is
    printed by one of them, and by another one if that one ends before it is written. Results that the broker
    had trimmed before they were read are told on stderr.
    """
    import msgspec

    from streamseg.client import Gap
    from streamseg.client import subscribe as read_results

    try:
        with read_results(url, streams or None, gaps=True, **options) as results:
            for result in results:
                if isinstance(result, Gap):
                    click.echo(str(result), err=True)
                    continue
                sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
                sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Whoever read our output has had enough, as `head` has. Python would flush once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0
