"""Labels for YOLO segmentation: one text file for each picture, one line for each object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import yaml

from streamseg.masks.polygons import Ring, join_rings, pixel_parts
from streamseg.results.export.pictures import picture_name
from streamseg.results.frame_result import instances_of
from streamseg.types.results import FrameResult

IMAGES, LABELS, DATA = "images", "labels", "data.yaml"
"""Names in a data set."""
_WITHIN_PIXEL = 0.25
"""Is added to the number of a pixel, so that it comes back from the fraction whether a reader cuts decimals
off, as Ultralytics does, or rounds, as supervision does."""


def write_yolo(
    results: Iterable[FrameResult], folder: Path, numbers: Mapping[str, int], *, tolerance: float = 0.0
) -> list[str]:
    """Write ``labels/NAME.txt`` for each result, and ``data.yaml`` when all are there.

    A line is the class's number and the corners of one polygon, as fractions of the picture.

    Args:
        results: Of any streams.
        folder: Of the data set.
        numbers: Of the classes, by label.
        tolerance: See :func:`streamseg.masks.polygons.edge_parts`.

    Returns:
        What the files do not hold.

    Raises:
        OSError: They cannot be written.
    """
    labels, pieces = folder / LABELS, 0
    labels.mkdir(parents=True, exist_ok=True)
    for result in results:
        found, size, lines = instances_of(result), np.array([result.width, result.height]), []
        for label, box, crop in zip(found.labels, found.boxes.tolist(), found.crops, strict=True):
            parts = pixel_parts(crop, box, tolerance=tolerance)
            pieces += len(parts) > 1
            ring = (_three_corners(join_rings([part.ring() for part in parts])) + _WITHIN_PIXEL) / size
            lines.append(" ".join([str(numbers[label]), *(f"{value:.6f}" for value in ring.ravel())]) + "\n")
        (labels / f"{picture_name(result)}.txt").write_text("".join(lines))
    names = dict.fromkeys(range(max(numbers.values(), default=-1) + 1), "")
    names |= {number: label for label, number in numbers.items()}
    content = {
        "train": IMAGES,
        "val": IMAGES,
        "names": {number: name or f"class_{number}" for number, name in names.items()},
    }
    (folder / DATA).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    remarks = ["scores and track ids are left out"]
    if pieces:
        remarks.append(f"pieces of an object are joined by lines a pixel wide: {pieces} times")
    return remarks


def _three_corners(ring: Ring) -> Ring:
    """An object of one or two pixels has as many corners; a polygon has three."""
    return np.concatenate([ring, np.repeat(ring[-1:], max(0, 3 - len(ring)), axis=0)])
