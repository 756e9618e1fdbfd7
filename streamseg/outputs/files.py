"""Where a file output writes: names, folders, and a partial file until the stream is whole."""

import errno
import logging
import os
from pathlib import Path

from streamseg.errors import OutputError, OutputGoneError, UsageError

logger = logging.getLogger(__name__)

_PLACE = "{stream}"
_FOR_ALL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Errors of a disk that the files of all other streams would meet as well."""


def output_path(template: str, stream: str, suffix: str, *, several: bool) -> Path:
    """File that stream ``stream`` is written to.

    Args:
        template: A file name; a folder (one that exists, or ends in "/", or for several streams any
            name without an ending), which gets a file ``STREAM + suffix``; or a name with ``{stream}`` in it.
        stream: Id of the stream.
        suffix: Ending of the file's name in a folder, with its dot.
        several: Whether there may be more than one stream: then a plain file name will not do.

    Raises:
        UsageError: A plain file for several streams, a URL, or a name that leaves the template's folder.
    """
    if "://" in template:
        raise UsageError(f"{template}: results and videos are written to files, not to URLs")
    if _PLACE in template:
        fixed = Path(template.partition(_PLACE)[0] + "x").parent
        path = Path(template.replace(_PLACE, stream))
        if template.endswith("/"):
            path /= stream + suffix
        if not _inside(path, fixed):
            raise UsageError(f"{template}: stream id {stream!r} would lead out of the folder {fixed}")
        return path
    named_folder = several and not Path(template).suffix
    if template.endswith("/") or Path(template).is_dir() or named_folder:
        return Path(template) / (stream + suffix)
    if several:
        raise UsageError(
            f"{template}: several streams need a folder (end it with /) or a name with {_PLACE} in it"
        )
    return Path(template)


def _inside(path: Path, folder: Path) -> bool:
    path_, folder_ = os.path.abspath(path), os.path.abspath(folder)
    return path_ != folder_ and os.path.commonpath([path_, folder_]) == folder_


def partial_path(path: Path) -> Path:
    """Name under which ``path`` is written until it is whole."""
    return path.with_name(path.name + ".partial")


def unfinished_mark(path: Path) -> Path:
    """Empty file that stands beside ``path`` if its run was stopped: there is more to come of it."""
    return path.with_name(path.name + ".unfinished")


def check_writable(path: Path) -> None:
    """Make sure, before anything is processed, that ``path`` can be written; makes its folder.

    Raises:
        UsageError: It cannot.
    """
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(21, "is a folder")
        if path.exists() and not path.is_file():
            # A device or pipe would be replaced by a file of its name.
            raise OSError(22, "is not an ordinary file")
        existed = partial.exists()
        with partial.open("ab"):
            pass
        if not existed:
            partial.unlink()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def keep_whole(partial: Path, path: Path) -> None:
    """Give a whole file its final name, in place of an older one.

    The name says that the file is whole, also to a run that is resumed after the machine lost its
    power: so the content goes to the disk before the name does.

    Raises:
        OSError: The file cannot be written or renamed.
    """
    _to_disk(partial)
    partial.replace(path)
    _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network drives know no fsync of a folder
            raise
    finally:
        os.close(fd)


def keep_partial(partial: Path, *, empty: bool) -> None:
    """Leave an incomplete file under its partial name and say so; an empty one is removed."""
    if empty:
        partial.unlink(missing_ok=True)
    else:
        logger.warning("%s is incomplete, what there is of it stays in %s", partial.stem, partial)


def write_failure(path: Path, error: Exception) -> OutputError:
    """What to raise when ``path`` cannot be written: OutputGoneError if no other file could be either."""
    text = f"cannot write {path}: {getattr(error, 'strerror', None) or error}"
    return OutputGoneError(text) if getattr(error, "errno", None) in _FOR_ALL else OutputError(text)
