"""``HOST:PORT`` on the command line."""

import re

import click

from streamseg.errors import UsageError

DEFAULT_ADDRESS = "127.0.0.1:8080"
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]*):(?P<port>\d{1,5})")


def parse_address(text: str, *, option: str) -> tuple[str, int]:
    """Host (127.0.0.1 if left out) and port. Raises UsageError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise UsageError(f"{option} {text!r}: write HOST:PORT, e.g. {DEFAULT_ADDRESS}")
    return found["host"].strip("[]") or "127.0.0.1", int(found["port"])


class ViewCommand(click.Command):
    """A command whose option ``--view`` takes an address or none: a source may follow it as well."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say what a lone ``--view`` means, where click would take the source behind it."""
        following = [*args, ""][1:]
        lone = [a == "--view" and not _ADDRESS.fullmatch(b) for a, b in zip(args, following, strict=True)]
        return super().parse_args(
            ctx, [f"{a}={DEFAULT_ADDRESS}" if alone else a for a, alone in zip(args, lone, strict=True)]
        )
