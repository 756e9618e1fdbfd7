"""Lines of text at the end of a file, each of them whole: on a disk that is full, too."""

from __future__ import annotations

from contextlib import suppress
from io import FileIO
from pathlib import Path

from streamseg.errors import OutputGoneError
from streamseg.outputs.files import write_failure
from streamseg.outputs.patience import Patience, PeerAwayError
from streamseg.types import FramePolicy, StreamInfo

END_SECONDS = 10.0
"""For a full disk to get room, once the run is over."""


def patience_for_disk(path_template: str) -> Patience:
    """How long the files that are written to a template wait for room on their disk."""
    return Patience(f"the disk of {path_template}", END_SECONDS, away="cannot be written to")


def waits_for_room(info: StreamInfo, patience: Patience) -> Patience | None:
    """That of a live stream, which goes on when somebody has made room; a recording fails at once."""
    return patience if info.policy is FramePolicy.NEWEST_FRAME else None


class LineFile:
    """An open file that lines are added to."""

    def __init__(self, path: Path, file: FileIO, *, patience: Patience | None) -> None:
        """``path`` is the name it will get; ``file`` is not buffered and stands where it ends.

        ``patience`` bears with a full disk; None does not.
        """
        self._path, self._file, self._patience = path, file, patience
        self.size = file.tell()
        """Bytes of whole lines."""

    def append(self, lines: bytes) -> None:
        """Write them all, or nothing of them. Raises OutputError."""
        if self._patience is None:
            self._write(lines)
        else:
            self._patience.retry(lambda: self._try(lines))

    def close(self) -> None:
        """Raises OSError."""
        self._file.close()

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
                self._file.truncate(self.size)  # half a line
                self._file.seek(self.size)
            raise write_failure(self._path, error) from error
        self.size += len(lines)
