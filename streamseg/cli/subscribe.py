"""``streamseg subscribe``."""

import sys
from typing import Annotated

import typer

EXAMPLE = "Example: streamseg subscribe redis://localhost:6379/0 lobby | head -n 1"


def subscribe(
    url: Annotated[str, typer.Argument(metavar="URL", help="redis:// or rediss:// URL.")],
    streams: Annotated[
        list[str] | None, typer.Argument(metavar="STREAM...", help="Stream ids; none means all.")
    ] = None,
    start: Annotated[
        str, typer.Option("--from", help="now, start (everything retained), or an entry id.")
    ] = "now",
) -> None:
    """Print the results of other processes, one JSON object per line."""
    import msgspec

    from streamseg.client import subscribe as read_results

    try:
        for result in read_results(url, streams or None, start=start):
            sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
            sys.stdout.buffer.flush()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
