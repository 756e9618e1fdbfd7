"""Results as a table: one row for each object."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import msgspec

from streamseg.files import complete_file
from streamseg.types.results import FrameResult, InstanceResult

_RESULT = ("stream", "epoch", "frame", "pts", "time", "width", "height", "model")
_INSTANCE = ("id", "label", "class_id", "score")
COLUMNS = (*_RESULT, *_INSTANCE, "x1", "y1", "x2", "y2", "area", "zones")


def write_csv(results: Iterable[FrameResult], path: Path) -> list[str]:
    """Write a table with a header; names of zones have a semicolon between them.

    Returns:
        What the file does not hold.

    Raises:
        OSError: It cannot be written.
    """
    without = 0
    with complete_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for result in results:
            shared = [getattr(result, name) for name in _RESULT]
            table.writerows([*shared, *_cells(instance)] for instance in result.instances)
            without += not result.instances
    remarks = ["masks are left out"]
    if without:
        remarks.append(f"frames without objects have no row: {without}")
    return remarks


def _cells(instance: InstanceResult) -> list[object]:
    zones = "" if instance.zones is msgspec.UNSET else ";".join(instance.zones)
    own = [getattr(instance, name) for name in _INSTANCE]
    return [*own, *(f"{side:g}" for side in instance.box), instance.area, zones]
