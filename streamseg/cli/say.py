"""Lines for the user."""

import sys
from contextlib import suppress


def say(line: str) -> None:
    """Tell the user, if anybody still listens: Ctrl-C also ends the `tee` that read our messages."""
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
