"""The file that a command writes."""

from pathlib import Path

from streamseg.errors import UsageError


def check_out_file(path: Path, suffix: str, *, what: str = "the name") -> None:
    """Raises UsageError unless a file with this suffix can be made there; ``what`` must end in it."""
    if path.suffix != suffix:
        raise UsageError(f"{path}: {what} must end in {suffix}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise UsageError(f"{path}: is a folder")
