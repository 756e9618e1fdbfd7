"""Events as text: one JSON object a line, in a file for each stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from streamseg.files import check_writable
from streamseg.outputs.files import find_lines, output_path, put_aside
from streamseg.outputs.lines import LineFile, patience_for_disk, waits_for_room
from streamseg.outputs.patience import Patience
from streamseg.types import Frame, FrameResult, Instances, Output, StreamEnd, StreamInfo, StreamWriter


class EventsOutput(Output):
    """Writes what happens at zones and lines; a resumed run writes the file anew, from the results."""

    events_only = True

    def __init__(self, path_template: str, *, several: bool = False) -> None:
        """``path_template``: see :func:`output_path`; in a folder the files are ``STREAM.events.ndjson``."""
        self._template, self._several = path_template, several
        self._kept: dict[str, tuple[Path, int]] = {}
        """By stream, what is there already and the bytes of it that stay."""
        self._patience = patience_for_disk(path_template)

    @property
    def trouble(self) -> str | None:
        """Why live streams wait for their disk."""
        return self._patience.trouble

    def hurry(self, patience: float | None = None) -> None:
        """Wait no longer than that for a full disk."""
        self._patience.hurry(patience)

    def path(self, stream: str) -> Path:
        """File of a stream. Raises UsageError."""
        return output_path(self._template, stream, ".events.ndjson", several=self._several)

    def check(self, streams: Sequence[str]) -> None:
        """Make sure, before anything is processed, that the files can be written. Raises UsageError."""
        for stream in streams:
            check_writable(self.path(stream))

    def go_on(self, stream: str, *, since: float) -> None:
        """Write a camera's events behind those that are there since then, in UNIX seconds.

        Raises UsageError: the file cannot be read.
        """
        self._kept[stream] = find_lines(self.path(stream), since)

    def open(self, info: StreamInfo) -> StreamWriter:
        """Open the stream's file. Raises UsageError or OutputError."""
        path = self.path(info.stream)
        check_writable(path)
        kept = self._kept.pop(info.stream, None)
        if kept is None or not kept[1]:
            put_aside(path, info)
        return _EventsWriter(path, kept, waits_for_room(info, self._patience))


class _EventsWriter(StreamWriter):
    def __init__(self, path: Path, kept: tuple[Path, int] | None, patience: Patience | None) -> None:
        """``kept``: see :class:`LineFile`."""
        self._file = LineFile(path, kept=kept, patience=patience)

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:  # noqa: ARG002
        """Write a line for each event. Raises OutputError."""
        self._file.write(b"".join(msgspec.json.encode(event) + b"\n" for event in result.events or ()))

    def close(self, end: StreamEnd) -> None:
        """Give the file its name unless the stream failed. Raises OutputError."""
        self._file.close(complete=end is not StreamEnd.FAILED)
