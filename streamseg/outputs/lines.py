"""A file of whole lines, which has its partial name until it is complete."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from streamseg.files import mark_complete, partial_path
from streamseg.outputs.files import leave_partial, write_failure


class LineFile:
    """Is written without a buffer: a reader that follows it sees whole lines, a full disk leaves no half one.

    Only a process that is killed may leave half a line at the end.
    """

    def __init__(self, path: Path, *, kept: int = 0) -> None:
        """Open the partial file of ``path``; ``kept`` bytes that stand in it already stay.

        Raises OutputError if it cannot be opened, as the methods below if it cannot be written.
        """
        self._path = path
        self.size = kept
        """Bytes of the whole lines."""
        try:
            self._file = partial_path(path).open("r+b" if kept else "wb", buffering=0)
            if kept:
                self._file.truncate(kept)
                self._file.seek(kept)
        except OSError as error:
            raise write_failure(path, error) from error

    def write(self, lines: bytes) -> None:
        """Append whole lines."""
        written = 0
        try:
            while written < len(lines):
                written += self._file.write(lines[written:])
        except OSError as error:
            with suppress(OSError):
                # What fitted on a full disk ends in half a line; the whole ones before it stay.
                self.size += lines.rfind(b"\n", 0, written) + 1
                self._file.truncate(self.size)
            raise write_failure(self._path, error) from error
        self.size += len(lines)

    def close(self, *, complete: bool) -> None:
        """Close the file and give it its name, if it is ``complete``."""
        try:
            self._file.close()
            if complete:
                mark_complete(partial_path(self._path), self._path)
            else:
                leave_partial(self._path, empty=self.size == 0)
        except OSError as error:
            raise write_failure(self._path, error) from error
