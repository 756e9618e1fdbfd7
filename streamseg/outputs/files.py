"""Where a file output writes: its names, and what becomes of a file that is partial."""

import errno
import glob
import itertools
import logging
import os
from pathlib import Path

from streamseg.errors import OutputError, OutputGoneError, UsageError
from streamseg.files import partial_path
from streamseg.types import FramePolicy, StreamInfo

logger = logging.getLogger(__name__)

_PLACE = "{stream}"
_ANY = "\ue000"
"""Stands for the id of any stream: a character that no id has."""
_BLOCK = 1 << 16
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
        raise UsageError(
            f"{template}: results and videos are written to files; URLs to push to begin with rtsp://"
        )
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


def written_paths(template: str, suffix: str, *, several: bool) -> list[Path]:
    """Files of any streams that were written to a template, see :func:`output_path`; also partial ones.

    Partial ones are listed by the name that they will get.
    """
    pattern = str(output_path(template, _ANY, suffix, several=several))
    pattern = glob.escape(pattern).replace(_ANY, "*")
    ending = partial_path(Path("x")).name.removeprefix("x")
    found = [*glob.glob(pattern), *(name.removesuffix(ending) for name in glob.glob(pattern + ending))]
    return sorted({Path(name) for name in found})


def files_beside(path: Path) -> list[Path]:
    """Every name under which writing to ``path`` makes or replaces a file."""
    return [path, partial_path(path), unfinished_mark(path)]


def _inside(path: Path, folder: Path) -> bool:
    path_, folder_ = os.path.abspath(path), os.path.abspath(folder)
    return path_ != folder_ and os.path.commonpath([path_, folder_]) == folder_


def written_since(path: Path, since: float) -> bool:
    """Whether there is a file that was changed after ``since``, in UNIX seconds."""
    try:
        return path.stat().st_mtime >= since
    except OSError:
        return False


def find_lines(path: Path, since: float) -> tuple[Path, int]:
    """The file that an earlier writer has left of ``path`` since then, and the bytes of its whole lines.

    It has either name; without one it is the partial name and 0. A process that is killed leaves at most
    half a line at the end. Raises UsageError.
    """
    partial = partial_path(path)
    try:
        for there in (partial, path):
            if written_since(there, since):
                return there, _whole_lines(there)
        return partial, 0
    except OSError as error:
        raise UsageError(f"cannot go on with {path}: {error.strerror or error}") from error


def _whole_lines(path: Path) -> int:
    """Where the last whole line ends, looked for from the end."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            if (newline := file.read(end - begin).rfind(b"\n")) >= 0:
                return begin + newline + 1
            end = begin
    return 0


def unfinished_mark(path: Path) -> Path:
    """Empty file that stands beside ``path`` if its run was stopped: there is more to come of it."""
    return path.with_name(path.name + ".unfinished")


def leave_partial(path: Path, *, empty: bool) -> None:
    """Leave what there is of ``path`` under its partial name and say so; an empty file is removed."""
    partial = partial_path(path)
    if empty:
        partial.unlink(missing_ok=True)
    else:
        logger.warning("%s is partial, what there is of it stays in %s", path, partial)


def put_aside(path: Path, info: StreamInfo) -> None:
    """Keep what an earlier run left of ``path``, of a live stream, where the new file will not overwrite it.

    Its name becomes ``NAME.partial.1``, or with the next number that is free. An empty file is of no use,
    and a recording is there to be read again. Raises OutputError.
    """
    partial = partial_path(path)
    if info.policy is not FramePolicy.NEWEST_FRAME or not _has_content(partial):
        return
    names = (partial.with_name(f"{partial.name}.{number}") for number in itertools.count(1))
    free = next(name for name in names if not os.path.lexists(name))
    try:
        partial.rename(free)
    except OSError as error:
        raise write_failure(path, error) from error
    logger.warning("stream %s: what an earlier run left in %s is kept as %s", info.stream, partial, free)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def write_failure(path: Path, error: Exception) -> OutputError:
    """What to raise when ``path`` cannot be written: OutputGoneError if no other file could be either."""
    text = f"cannot write {path}: {getattr(error, 'strerror', None) or error}"
    return OutputGoneError(text) if getattr(error, "errno", None) in _FOR_ALL else OutputError(text)
