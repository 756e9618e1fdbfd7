"""Frame results as text: one JSON object a line, to a file per stream or to standard output."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from streamseg.errors import OutputError, OutputGoneError
from streamseg.files import check_writable, partial_path
from streamseg.outputs.files import (
    find_lines,
    output_path,
    put_aside,
    unfinished_mark,
    write_failure,
    written_paths,
    written_since,
)
from streamseg.outputs.kept import Kept, find_kept, first_result
from streamseg.outputs.lines import LineFile, patience_for_disk, waits_for_room
from streamseg.outputs.patience import Patience
from streamseg.types import Frame, FrameResult, Instances, Output, StreamEnd, StreamInfo, StreamWriter

STDOUT = "-"
_ENCODER = msgspec.json.Encoder()


class NdjsonOutput(Output):
    """Writes each stream's results to its file, or all of them to standard output.

    Every line is handed to the operating system as one piece, so a reader that follows the file sees
    complete lines only; only a process that is killed may leave half a line at the end.
    """

    def __init__(self, path_template: str, *, several: bool = False, stdout: BinaryIO | None = None) -> None:
        """``path_template``: see :func:`output_path`; ``-`` is standard output."""
        self._template = path_template
        self._several = several
        self._stdout = (stdout or sys.stdout.buffer) if path_template == STDOUT else None
        self._kept: dict[str, Kept] = {}
        self._patience = patience_for_disk(path_template)
        self.closes_last = self.to_files

    @property
    def trouble(self) -> str | None:
        """Why live streams wait for their disk."""
        return self._patience.trouble

    def hurry(self, patience: float | None = None) -> None:
        """Wait no longer than that for a full disk."""
        self._patience.hurry(patience)

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

    def has_finished(self, stream: str, *, since: float = 0.0) -> bool:
        """Whether an earlier run wrote all results of a stream (to standard output it always did).

        ``since``: older files, in UNIX seconds, do not count.
        """
        path = self.path(stream)
        if path is None:
            return True
        unfinished = partial_path(path).exists() or unfinished_mark(path).exists()
        return written_since(path, since) and not unfinished

    def first_result(self, stream: str) -> FrameResult | None:
        """The first result that an earlier run wrote of a stream, if there was one."""
        path = self.path(stream)
        if path is None:
            return None
        partial = partial_path(path)
        return first_result(partial if partial.exists() else path)

    def written(self) -> dict[str, str]:
        """What earlier runs wrote to these files: the source of each stream, by its id."""
        if not self.to_files:
            return {}
        paths = written_paths(self._template, ".ndjson", several=self._several)
        firsts = [first_result(partial_path(path)) or first_result(path) for path in paths]
        return {first.stream: first.source for first in firsts if first is not None and first.source}

    def take_over(self, stream: str, *, since: float = 0.0) -> Kept | None:
        """Go on behind the results that an interrupted run left of a stream, None on standard output.

        They are to be written again, all of them and in order, and are then passed over. ``since``: older
        files, in UNIX seconds, are not of that run.

        Raises:
            UsageError: The file cannot be read.
        """
        path = self.path(stream)
        if path is None:
            return None
        partial = partial_path(path)
        if written_since(path, since) and not partial.exists():
            path.replace(partial)
        self._kept[stream] = find_kept(partial, stream) if written_since(partial, since) else Kept(partial)
        return self._kept[stream]

    def go_on(self, stream: str, *, since: float) -> None:
        """Write a camera's results behind those that are there since then, in UNIX seconds.

        Raises UsageError: the file cannot be read.
        """
        if (path := self.path(stream)) is not None:
            there, size = find_lines(path, since)
            self._kept[stream] = Kept(there, size=size)

    def open(self, info: StreamInfo) -> StreamWriter:
        """Open the stream's file. Raises UsageError or OutputError."""
        path = self.path(info.stream)
        if path is None:
            assert self._stdout is not None
            return _StdoutWriter(self._stdout)
        check_writable(path)
        kept = self._kept.pop(info.stream, Kept(partial_path(path)))
        if not kept.size:
            put_aside(path, info)
        return _FileWriter(path, kept, waits_for_room(info, self._patience))


class _FileWriter(StreamWriter):
    """The file of one stream, behind the results that an interrupted run left in it."""

    def __init__(self, path: Path, kept: Kept, patience: Patience | None) -> None:
        self._path, self._kept = path, kept
        self._known = kept.lines
        """Results still to come that stand in the file already."""
        self._file = LineFile(path, kept=(kept.path, kept.size), patience=patience)

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:  # noqa: ARG002
        """Write one line. Raises OutputError."""
        if self._kept.misfit is not None:
            raise OutputError(self._kept.misfit)
        if self._known:
            self._known -= 1
        else:
            self._file.write(_line(result))

    def close(self, end: StreamEnd) -> None:
        """Give the file its name unless the stream failed. Raises OutputError."""
        surplus = self._known if end is StreamEnd.ENDED else 0
        complete = end is not StreamEnd.FAILED and not surplus
        mark = unfinished_mark(self._path)
        try:
            if complete and end is StreamEnd.STOPPED:
                mark.touch()  # a resumed run is to go on with it
        except OSError as error:
            self._file.close(complete=False)  # under its own name, without the mark, it would count as whole
            raise write_failure(self._path, error) from error
        self._file.close(complete=complete)
        try:
            if complete and end is not StreamEnd.STOPPED:
                mark.unlink(missing_ok=True)
        except OSError as error:
            raise write_failure(self._path, error) from error
        if surplus:
            raise OutputError(
                f"{self._kept.path} is of another source: it has {surplus} results more than this one has "
                f"frames; begin anew without --resume"
            )


class _StdoutWriter(StreamWriter):
    """Standard output, which all streams share."""

    def __init__(self, stdout: BinaryIO) -> None:
        self._stdout = stdout

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:  # noqa: ARG002
        """Write one line. Raises OutputGoneError."""
        try:
            self._stdout.write(_line(result))
            self._stdout.flush()
        except OSError as error:
            raise OutputGoneError(f"cannot write to standard output: {error.strerror or error}") from error


def _line(result: FrameResult) -> bytes:
    return _ENCODER.encode(result) + b"\n"
