"""``HOST:PORT`` on the command line."""

import re

import click

from streamseg.errors import UsageError

DEFAULT_ADDRESS = "127.0.0.1:8080"
ANY_CLUSTER = "auto"
"""The Ray cluster that this machine is part of."""
_DEFAULTS = {"--view": DEFAULT_ADDRESS, "--ray": ANY_CLUSTER}
_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]*):(?P<port>\d{1,5})")


def parse_address(text: str, *, option: str) -> tuple[str, int]:
    """Host (127.0.0.1 if left out) and port. Raises UsageError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65535:
        raise UsageError(f"{option} {text!r}: write HOST:PORT, e.g. {DEFAULT_ADDRESS}")
    return found["host"].strip("[]") or "127.0.0.1", int(found["port"])


class AddressCommand(click.Command):
    """A command whose options ``--view`` and ``--ray`` take an address or none: a source may follow them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say what a lone option means, where click would take the source behind it."""
        following = [*args, ""][1:]
        return super().parse_args(ctx, [_completed(a, b) for a, b in zip(args, following, strict=True)])


def _completed(argument: str, following: str) -> str:
    """The argument, with its default if it is an option without an address."""
    default = _DEFAULTS.get(argument)
    if default is None or following == default or _ADDRESS.fullmatch(following):
        return argument
    return f"{argument}={default}"
