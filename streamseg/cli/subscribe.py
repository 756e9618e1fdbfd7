"""``streamseg subscribe``."""

import os
import sys

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
def subscribe(*, url: str, streams: tuple[str, ...], start: str) -> int:
    """Print the results that other processes publish to the Redis at URL, one JSON object per line.

    Without STREAM ids all streams are followed.
    """
    import msgspec

    from streamseg.client import subscribe as read_results

    try:
        for result in read_results(url, streams or None, start=start):
            sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Whoever read our output has had enough, as `head` has. Python would flush once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    return 0
