"""The command line: ``streamseg run``, ``train``, ``export`` and the others."""

import os
import sys
import traceback
from collections.abc import Sequence

import click

from streamseg import __version__
from streamseg.cli import (
    bench,
    broker,
    cluster,
    convert,
    data,
    engine,
    export,
    health,
    render,
    results,
    run,
    subscribe,
    view,
)
from streamseg.config import hint
from streamseg.errors import StreamsegError, UsageError, mask_password


class _Commands(click.Group):
    """Commands; for an unknown one the nearest known one is named."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. Raises UsageError."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            commands = [known for known in self.list_commands(ctx) if not self.commands[known].hidden]
            likely = hint(name, commands) or _of_a_source(name)
            raise UsageError(f"no such command {name!r}{likely}; there are {', '.join(commands)}")
        return super().resolve_command(ctx, args)


def _of_a_source(name: str) -> str:
    """A hint for a file or URL that stands where a command belongs; empty for anything else."""
    return f" (did you mean streamseg run {name}?)" if "/" in name or "." in name else ""


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="streamseg")
def program() -> None:
    """Segment every object in cameras and recorded video with SOLO, and hand the masks on."""


for _command in (
    run.run,
    subscribe.subscribe,
    view.view,
    render.render,
    results.results,
    broker.broker,
    data.train,
    data.evaluate,
    convert.convert,
    export.export,
    bench.bench,
    health.health,
    data.models,
    cluster.cluster,
    engine.engine,
):
    program.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    # Read when torch is loaded. Its threads would spin while they wait for each other: beside decoders on
    # all cores that made a batch of the bundled network 10 times slower, and took 4 to 18 times the CPU time.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = program(
            args=None if arguments is None else list(arguments), prog_name="streamseg", standalone_mode=False
        )
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return 2
    except click.Abort:  # Ctrl-C in a command that does not handle it
        return 130
    except click.ClickException as error:
        sys.stderr.write(f"error: {mask_password(error.format_message())}\n")
        return 2
    except StreamsegError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except Exception:  # noqa: BLE001  a bug, or a device that broke: Python would show it with any password
        sys.stderr.write(mask_password(traceback.format_exc()))
        return 1
    return code if isinstance(code, int) else 0
