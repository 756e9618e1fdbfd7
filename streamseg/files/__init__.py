"""Files that are written under a partial name and get their own when they are complete.

Whoever reads a file under its own name has all of it, also after a kill or a loss of power.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from streamseg.errors import UsageError

_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""What file systems without hard links answer."""


def partial_path(path: Path) -> Path:
    """Name under which ``path`` is written until it is complete."""
    return path.with_name(path.name + ".partial")


@contextmanager
def complete_file(path: Path) -> Iterator[Path]:
    """A partial name to write to; it becomes ``path``, in place of an older file, if the block succeeds.

        with complete_file(path) as partial:
            partial.write_bytes(data)

    What the block opens it has to close. If it raises, the partial file is removed and ``path`` stays as
    it was; after a kill both stay.

    Raises:
        OSError: The file cannot be written or renamed.
    """
    partial = partial_path(path)
    try:
        yield partial
        mark_complete(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def mark_complete(partial: Path, path: Path) -> None:
    """Give a complete file its own name, in place of an older one.

    The name says that the file is complete, also to a run that is resumed after the machine lost its
    power: so the content goes to the disk before the name does.

    Raises:
        OSError: The file cannot be written or renamed.
    """
    _to_disk(partial)
    partial.replace(path)
    _to_disk(path.parent)


def commit_once(complete: Path, path: Path) -> bool:
    """Give a complete file its own name, unless there is a file of that name: the first one holds.

    A hard link makes the name: the file system itself refuses a second one, over NFS as well, whoever else
    tries at that moment. A file system without hard links is asked whether the name exists.

    Returns whether ``path`` is this file now; ``complete`` is gone in any case.

    Raises:
        OSError: The name cannot be made.
    """
    try:
        os.link(complete, path)
    except FileExistsError:
        first = path.samefile(complete)  # NFS: the answer to our own link was lost
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if first := not path.exists():
            complete.replace(path)
    else:
        first = True
    complete.unlink(missing_ok=True)
    _to_disk(path.parent)
    return first


def check_writable(path: Path) -> None:
    """Make sure, before anything is processed, that ``path`` can be written; makes its folder.

    Raises:
        UsageError: It cannot.
    """
    partial = partial_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        if path.exists() and not path.is_file():
            # A device or pipe would be replaced by a file of its name.
            raise OSError(errno.EINVAL, "is not an ordinary file")
        existed = partial.exists()
        with partial.open("ab"):
            pass
        if not existed:
            partial.unlink()
    except OSError as error:
        raise UsageError(f"cannot write {path}: {_reason(path, error)}") from error


def _reason(path: Path, error: OSError) -> str:
    blocking = next((one for one in path.parents if os.path.lexists(one)), None)
    if blocking is not None and not blocking.is_dir():
        return f"{blocking} is not a folder"
    return error.strerror or str(error)


def _to_disk(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # some network drives know no fsync of a folder
            raise
    finally:
        os.close(fd)
