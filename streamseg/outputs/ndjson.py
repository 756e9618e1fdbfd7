"""Frame results as text: one JSON object a line, to a file per stream or to standard output."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from streamseg.errors import OutputError, OutputGoneError
from streamseg.outputs.files import (
    check_writable,
    keep_partial,
    keep_whole,
    output_path,
    partial_path,
    unfinished_mark,
    write_failure,
)
from streamseg.outputs.kept import Kept, find_kept, first_time
from streamseg.types import Frame, FrameResult, Instances, StreamInfo

STDOUT = "-"


@dataclass(slots=True)
class _File:
    path: Path
    partial: Path
    raw: FileIO
    kept: Kept
    known: int
    """Results still to come that stand in the file already."""
    size: int
    cut_short: bool = False


class NdjsonOutput:
    """Writes each stream's results to its file, or all of them to standard output.

    Every line is handed to the operating system as one whole, so a reader that follows the file has
    whole lines only; only a process that is killed may leave half a line at the end.
    """

    needs_pixels = False

    def __init__(self, path_template: str, *, several: bool = False, stdout: BinaryIO | None = None) -> None:
        """``path_template``: see :func:`output_path`; ``-`` is standard output."""
        self._template = path_template
        self._several = several
        self._stdout = (stdout or sys.stdout.buffer) if path_template == STDOUT else None
        self._encoder = msgspec.json.Encoder()
        self._files: dict[str, _File] = {}
        self._kept: dict[str, Kept] = {}

    @property
    def to_files(self) -> bool:
        """Whether results go to files, not to standard output."""
        return self._stdout is None

    def path(self, stream: str) -> Path | None:
        """File of a stream, None for standard output. Raises UsageError."""
        if self._stdout is not None:
            return None
        return output_path(self._template, stream, ".ndjson", several=self._several)

    def check(self, streams: Sequence[str]) -> None:
        """Make sure, before anything is processed, that the files can be written. Raises UsageError."""
        for path in filter(None, map(self.path, streams)):
            check_writable(path)

    def has_finished(self, stream: str) -> bool:
        """Whether an earlier run wrote all results of a stream (to standard output it always did)."""
        path = self.path(stream)
        if path is None:
            return True
        unfinished = partial_path(path).exists() or unfinished_mark(path).exists()
        return path.exists() and not unfinished

    def began(self, stream: str) -> float | None:
        """UNIX seconds of the first frame that an earlier run decoded of a stream, if there was one."""
        path = self.path(stream)
        if path is None:
            return None
        partial = partial_path(path)
        return first_time(partial if partial.exists() else path)

    def take_over(self, stream: str) -> Kept | None:
        """Go on behind the results that an interrupted run left of a stream, None on standard output.

        They are to be written again, all of them and in order, and are then passed over.

        Raises:
            UsageError: The file cannot be read.
        """
        path = self.path(stream)
        if path is None:
            return None
        partial = partial_path(path)
        if path.exists() and not partial.exists():
            path.replace(partial)
        self._kept[stream] = find_kept(partial, stream)
        return self._kept[stream]

    def open(self, info: StreamInfo) -> None:
        """Open the stream's file; a next epoch goes on in it. Raises UsageError or OutputError."""
        path = self.path(info.stream)
        if path is None or info.stream in self._files:
            return
        check_writable(path)
        partial = partial_path(path)
        kept = self._kept.pop(info.stream, Kept(partial))
        try:
            raw = partial.open("r+b" if kept.lines else "wb", buffering=0)
            if kept.lines:
                raw.truncate(kept.size)
                raw.seek(kept.size)
        except OSError as error:
            raise write_failure(path, error) from error
        self._files[info.stream] = _File(path, partial, raw, kept, known=kept.lines, size=kept.size)

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:  # noqa: ARG002
        """Write one line. Raises OutputError."""
        if self._stdout is not None:
            self._write_stdout(self._stdout, self._line(result))
            return
        file = self._files[result.stream]
        if file.kept.misfit is not None:
            raise OutputError(file.kept.misfit)
        if file.known:
            file.known -= 1
        else:
            self._write_file(file, self._line(result))

    def cut_short(self, stream: str) -> None:
        """Take notice, before the end, that the stream's source was stopped and has more to give."""
        if (file := self._files.get(stream)) is not None:
            file.cut_short = True

    def close(self, stream: str, *, complete: bool) -> None:
        """Give the file its name if it is complete. Raises OutputError."""
        if (file := self._files.pop(stream, None)) is None:
            return
        surplus = file.known if complete and not file.cut_short else 0
        try:
            file.raw.close()
            if complete and not surplus:
                _name(file)
            else:
                keep_partial(file.partial, empty=file.size == 0)
        except OSError as error:
            raise write_failure(file.path, error) from error
        if surplus:
            raise OutputError(
                f"{file.partial} is of another source: it has {surplus} results more than this one has "
                f"frames; begin anew without --resume"
            )

    def shutdown(self) -> None:
        """Close what is still open as incomplete."""
        for stream in list(self._files):
            self.close(stream, complete=False)

    def _line(self, result: FrameResult) -> bytes:
        return self._encoder.encode(result) + b"\n"

    @staticmethod
    def _write_stdout(stdout: BinaryIO, line: bytes) -> None:
        try:
            stdout.write(line)
            stdout.flush()
        except OSError as error:
            raise OutputGoneError(f"cannot write to standard output: {error.strerror or error}") from error

    @staticmethod
    def _write_file(file: _File, line: bytes) -> None:
        try:
            written = 0
            while written < len(line):
                written += file.raw.write(line[written:])
            file.size += len(line)
        except OSError as error:
            with suppress(OSError):
                file.raw.truncate(file.size)  # half a line, on a disk that is full
            raise write_failure(file.path, error) from error


def _name(file: _File) -> None:
    """Give a file its final name, and a mark if a resumed run is to go on with it."""
    mark = unfinished_mark(file.path)
    if file.cut_short:
        mark.touch()
    keep_whole(file.partial, file.path)
    if not file.cut_short:
        mark.unlink(missing_ok=True)
