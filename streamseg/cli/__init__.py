"""The command line: ``streamseg run``, ``subscribe``, ``train``, ``eval``, ``models``."""

import sys
from collections.abc import Sequence

import click
import typer

from streamseg.cli import data, run, subscribe
from streamseg.errors import StreamsegError

app = typer.Typer(
    name="streamseg",
    help="Segment every object in cameras and recorded video with SOLO, and hand the masks on.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run", epilog=run.EXAMPLE)(run.run)
app.command("subscribe", epilog=subscribe.EXAMPLE)(subscribe.subscribe)
app.command("train", epilog=data.TRAIN_EXAMPLE)(data.train)
app.command("eval", epilog=data.EVAL_EXAMPLE)(data.evaluate)
app.command("models", epilog=data.MODELS_EXAMPLE)(data.models)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    try:
        code = app(args=None if arguments is None else list(arguments), standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        return 2
    except click.ClickException as error:
        sys.stderr.write(f"error: {error.format_message()}\n")
        return 2
    except StreamsegError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does.
        sys.stderr.close()
        return 0
    return code if isinstance(code, int) else 0
