"""A file of whole lines, on a disk that is full, too; it has its partial name until it is complete."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from streamseg.errors import OutputGoneError
from streamseg.files import mark_complete, partial_path
from streamseg.outputs.files import leave_partial, write_failure
from streamseg.outputs.patience import Patience, PeerAwayError
from streamseg.types import FramePolicy, StreamInfo

_END_SECONDS = 10.0
"""How long a full disk is waited for once the run is over."""


def patience_for_disk(path_template: str) -> Patience:
    """How long the files that are written to a template wait for room on their disk."""
    return Patience(f"the disk of {path_template}", _END_SECONDS, away="cannot be written to")


def waits_for_room(info: StreamInfo, patience: Patience) -> Patience | None:
    """``patience`` for a live stream, which waits for room; None for a recording, which fails at once."""
    return patience if info.policy is FramePolicy.NEWEST_FRAME else None


class LineFile:
    """Is written without a buffer: a reader that follows it sees whole lines, a full disk leaves no half one.

    Only a process that is killed may leave half a line at the end.
    """

    def __init__(
        self, path: Path, *, kept: tuple[Path, int] | None = None, patience: Patience | None = None
    ) -> None:
        """Open the partial file of ``path``; ``kept`` is a file to go on with, and the bytes of it that stay.

        That file has its own name until now: a stream that never opens leaves it as it was.
        ``patience`` bears with a full disk; None does not. Raises OutputError if the file cannot be opened,
        as the methods below if it cannot be written.
        """
        self._path, self._patience = path, patience
        partial = partial_path(path)
        there, size = kept or (partial, 0)
        self.size = size
        """Bytes of whole lines."""
        try:
            if size and there != partial:
                there.replace(partial)
            self._file = partial.open("r+b" if size else "wb", buffering=0)
            if size:
                self._file.truncate(size)
                self._file.seek(size)
        except OSError as error:
            raise write_failure(path, error) from error

    def write(self, lines: bytes) -> None:
        """Append whole lines: all of them, or nothing."""
        if self._patience is None:
            self._write(lines)
        else:
            self._patience.retry(lambda: self._try(lines))

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

    def _try(self, lines: bytes) -> None:
        try:
            self._write(lines)
        except OutputGoneError as error:
            raise PeerAwayError(str(error)) from None

    def _write(self, lines: bytes) -> None:
        written = 0
        try:
            while written < len(lines):
                written += self._file.write(lines[written:])
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(self.size)  # what fitted on a full disk
                self._file.seek(self.size)
            raise write_failure(self._path, error) from error
        self.size += len(lines)
