"""Reading stored results again."""

from __future__ import annotations

import gzip
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from streamseg.errors import UsageError
from streamseg.files import partial_path
from streamseg.types.results import RESULT_VERSION, FrameResult

logger = logging.getLogger(__name__)

_DECODER = msgspec.json.Decoder(FrameResult)
_GZIP = b"\x1f\x8b"
_CUT = (EOFError, zlib.error, gzip.BadGzipFile)
"""What a compressed file that is cut off or damaged raises."""


def parse_result(line: bytes) -> FrameResult:
    """The result that one line of JSON holds. Raises ValueError if it is none, or of another version."""
    result = _DECODER.decode(line)
    if result.v != RESULT_VERSION:
        raise ValueError(f"version {result.v}, this program reads version {RESULT_VERSION}")
    return result


def read_results(path: str | os.PathLike[str], *, warn: bool = True) -> Iterator[FrameResult]:
    """Iterate over the results of an NDJSON file, in its order.

        for result in read_results("street.ndjson"):
            print(result.frame, [instance.label for instance in result.instances])

    What an interrupted run left (``NAME.ndjson.partial``) and what gzip has compressed is read as well. A
    last line that is cut off is left out, and a warning says so. Empty lines are passed over.

    Args:
        path: Of the file.
        warn: Log that warning.

    Raises:
        UsageError: At once: the file cannot be read. While it is read: a line holds no result; it is named by
            its number.
    """
    path = Path(path)
    _check(path)
    return _results(path, logging.WARNING if warn else logging.DEBUG)


def _check(path: Path) -> None:
    """Make sure that there is a file to read. Raises UsageError."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except FileNotFoundError as error:
        partial = partial_path(path)
        there = f"; what an interrupted run left is in {partial}" if partial.exists() else ""
        raise UsageError(f"{path}: there is no such file{there}") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot read {path}: {error.strerror or error}")


def _results(path: Path, level: int) -> Iterator[FrameResult]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_lines(path, file, level), start=1):
                if not line.strip():
                    continue
                try:
                    result = parse_result(line)
                except ValueError as error:  # msgspec's and those of UTF-8 are ValueErrors
                    if line.endswith(b"\n"):
                        raise UsageError(f"{path}, line {number}: no frame result ({error})") from error
                    logger.log(level, "%s: line %d, the last one, is cut off and left out", path, number)
                    return
                yield result
    except OSError as error:
        raise _unreadable(path, error) from error


def _lines(path: Path, file: BinaryIO, level: int) -> Iterator[bytes]:
    """The lines of a file, compressed or not."""
    compressed = file.read(len(_GZIP)) == _GZIP
    file.seek(0)
    if not compressed:
        yield from file
        return
    try:
        with gzip.open(file) as inside:
            yield from inside
    except _CUT as error:
        logger.log(level, "%s: is cut off or damaged (%s); what comes before that is read", path, error)
