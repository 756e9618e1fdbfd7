"""The tables of a run: CSV files with one row for every step or evaluation, which survive a kill.

Written by hand: Fabric's CSVLogger begins a new file at every start, and cannot take back the rows of steps
that a killed run wrote after its last checkpoint.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from streamseg.files import complete_file


class CsvLog:
    """A CSV file with the column ``step`` and others."""

    def __init__(self, path: Path, columns: Sequence[str], *, after: int) -> None:
        """Go on after step ``after``: rows of later steps, written before a kill, are taken out."""
        rows = [row for row in read_csv_log(path) if int(row["step"]) <= after]
        with complete_file(path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        self._file = path.open("a", newline="")
        self._writer = csv.DictWriter(self._file, columns)

    def write(self, row: Mapping[str, object]) -> None:
        """Add a row; a column that is not in it is left blank."""
        self._writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})

    def flush(self) -> None:
        """Hand all rows to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_csv_log(path: Path) -> list[dict[str, str]]:
    """The complete rows of a table; none if there is no such file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        # A row that a kill cut off has too few values, or a last one that is too short: it is of a step
        # after the checkpoint, and taken out for that.
        return [row for row in reader if None not in row and None not in row.values()]
