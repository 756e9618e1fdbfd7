"""Which files an argument stands for: a file itself, or those of a folder or glob."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from streamseg.errors import UsageError

VIDEO_EXTENSIONS = frozenset(
    {".3gp", ".asf", ".avi", ".flv", ".h264", ".hevc", ".m2ts", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov"}
    | {".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"}
)
"""File name endings (any case) by which videos are picked out of a folder or a glob."""

PICTURE_EXTENSIONS = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""The same for pictures: each is a source of its own."""


def files_of(path: Path, argument: str, *, recursive: bool) -> list[str]:
    """The file ``path`` itself, or the videos and then the pictures of a folder or glob, by name.

    ``argument`` is what the user wrote; ``recursive`` takes a folder's folders, too. Raises UsageError if a
    folder or glob has none.
    """
    if path.is_dir():
        return _media(_below(path) if recursive else _listed(path), f"folder {argument}")
    if glob.has_magic(str(path)) and not path.exists():
        return _media(map(Path, glob.glob(str(path), recursive=True)), f"pattern {argument}")
    return [str(path)]


def _listed(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        raise UsageError(f"folder {folder}: cannot be read ({error.strerror or error})") from error


def _below(folder: Path) -> Iterator[Path]:
    """All files below a folder, but for those in hidden folders and behind links to folders."""
    list(_listed(folder))  # walk passes over what cannot be read
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place, name) for name in names)


def _media(paths: Iterable[Path], where: str) -> list[str]:
    """Videos, then pictures, each sorted; hidden ones (macOS makes them) do not count.

    A picture beside its video, as recorders leave them, must not take the video's name for its id.
    """
    found = [path for path in paths if not path.name.startswith(".") and path.is_file()]
    videos, pictures = (
        sorted(str(path) for path in found if path.suffix.lower() in endings)
        for endings in (VIDEO_EXTENSIONS, PICTURE_EXTENSIONS)
    )
    if not videos and not pictures:
        endings = " ".join(sorted(VIDEO_EXTENSIONS | PICTURE_EXTENSIONS))
        raise UsageError(f"{where}: no video file there and no picture; file names may end in {endings}")
    return [*videos, *pictures]
