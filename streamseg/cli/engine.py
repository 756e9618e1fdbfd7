"""``streamseg engine``: what ``run`` starts on each of several devices."""

import click

from streamseg.cli.logs import configure_logging


@click.command("engine", hidden=True)
@click.argument("fd", type=int)
@click.option("--log-level", default="warning")
@click.option("--log-json", is_flag=True)
def engine(*, fd: int, log_level: str, log_json: bool) -> int:
    """Work for the program at the other end of the socket with this file descriptor."""
    configure_logging(log_level, as_json=log_json)
    from streamseg.scale.engine import serve_owner

    return serve_owner(fd)
