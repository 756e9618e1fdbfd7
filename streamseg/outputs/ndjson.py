"""Frame results as text: one JSON object a line, to a file per stream or to standard output."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import msgspec

from streamseg.errors import OutputError
from streamseg.outputs.files import check_writable, keep_partial, keep_whole, output_path, partial_path
from streamseg.types import Frame, FrameResult, Instances, StreamInfo

STDOUT = "-"


@dataclass(slots=True)
class _File:
    path: Path
    partial: Path
    raw: FileIO
    size: int = 0


class NdjsonOutput:
    """Writes each stream's results to its file, or all of them to standard output.

    Every line is handed to the operating system as one whole, so a reader that follows the file, or
    finds it after a crash, has whole lines only.
    """

    needs_pixels = False

    def __init__(self, path_template: str, *, several: bool = False, stdout: BinaryIO | None = None) -> None:
        """``path_template``: see :func:`output_path`; ``-`` is standard output."""
        self._template = path_template
        self._several = several
        self._stdout = (stdout or sys.stdout.buffer) if path_template == STDOUT else None
        self._encoder = msgspec.json.Encoder()
        self._files: dict[str, _File] = {}

    def path(self, stream: str) -> Path | None:
        """File of a stream, None for standard output. Raises UsageError."""
        if self._stdout is not None:
            return None
        return output_path(self._template, stream, ".ndjson", several=self._several)

    def check(self, streams: Sequence[str]) -> None:
        """Make sure, before anything is processed, that the files can be written. Raises UsageError."""
        for path in filter(None, map(self.path, streams)):
            check_writable(path)

    def open(self, info: StreamInfo) -> None:
        """Open the stream's file; a next epoch goes on in it. Raises UsageError."""
        path = self.path(info.stream)
        if path is None or info.stream in self._files:
            return
        check_writable(path)
        partial = partial_path(path)
        self._files[info.stream] = _File(path, partial, partial.open("wb", buffering=0))

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:  # noqa: ARG002
        """Write one line. Raises OutputError."""
        line = self._encoder.encode(result) + b"\n"
        if self._stdout is not None:
            self._write_stdout(self._stdout, line)
        else:
            self._write_file(self._files[result.stream], line)

    def close(self, stream: str, *, complete: bool) -> None:
        """Give the file its name if it is complete. Raises OutputError."""
        if (file := self._files.pop(stream, None)) is None:
            return
        try:
            file.raw.close()
            if complete:
                keep_whole(file.partial, file.path)
            else:
                keep_partial(file.partial, empty=file.size == 0)
        except OSError as error:
            raise OutputError(f"cannot write {file.path}: {error.strerror or error}") from error

    def shutdown(self) -> None:
        """Close what is still open as incomplete."""
        for stream in list(self._files):
            self.close(stream, complete=False)

    @staticmethod
    def _write_stdout(stdout: BinaryIO, line: bytes) -> None:
        try:
            stdout.write(line)
            stdout.flush()
        except OSError as error:
            raise OutputError(f"cannot write to standard output: {error.strerror or error}") from error

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
            raise OutputError(f"cannot write {file.path}: {error.strerror or error}") from error
