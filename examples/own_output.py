"""An output of your own: a CSV file for each stream with a line for each second.

python examples/own_output.py SOURCE ...
"""

import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from streamseg import run
from streamseg.errors import OutputError, UsageError
from streamseg.types import Frame, FrameResult, Instances, Output, StreamEnd, StreamInfo, StreamWriter


class CsvOutput(Output):
    """Gives each stream a file in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check(self, streams: Sequence[str]) -> None:  # before anything is processed
        """Make the folder. Raises UsageError."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{self._folder}: cannot be made ({error.strerror})") from error

    def open(self, info: StreamInfo) -> StreamWriter:
        """A writer for a stream that begins."""
        return CsvWriter(self._folder / f"{info.stream}.csv")


class CsvWriter(StreamWriter):
    """Writes second, label and the largest number of objects at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w", newline="")
        self._rows = csv.writer(self._file)
        self._rows.writerow(["second", "label", "objects"])
        self._second, self._most = 0, Counter[str]()

    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        """Take one frame in. Raises OutputError."""
        if int(result.pts) != self._second:
            self._flush()
            self._second = int(result.pts)
        self._most |= Counter(instance.label for instance in result.instances)

    def close(self, end: StreamEnd) -> None:
        """Finish the file."""
        self._flush()
        self._file.close()
        print(f"{self._path}: {end.value}")

    def _flush(self) -> None:
        try:
            self._rows.writerows([self._second, label, most] for label, most in sorted(self._most.items()))
        except OSError as error:
            raise OutputError(f"{self._path}: {error.strerror}") from error
        self._most = Counter()


def main(*sources: str) -> None:
    """Process the sources; the results go to the output alone."""
    for _ in run(*(sources or ("samples/street.mp4",)), outputs=[CsvOutput(Path("out/csv"))]):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
