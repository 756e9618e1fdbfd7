"""Results as a run stores them, of objects that a test draws."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamseg.types import FrameResult, Instances
from tests.support.clips import frame, instances, result_of

SIZE = (64, 48)
SHAPES = ("ring", "pieces", "dot", "diagonal", "border", "noise")


def mask(shape: str) -> NDArray[np.bool_]:
    """(48, 64) bool: masks that are difficult to outline."""
    full = np.zeros((SIZE[1], SIZE[0]), np.bool_)
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    match shape:
        case "ring":
            distance = np.hypot(rows - 20, columns - 24)
            full[(distance > 5) & (distance < 12)] = True
        case "pieces":
            full[4:14, 40:60] = full[20:23, 41:43] = full[30, 62] = True
            full[6:9, 45:50] = False
        case "dot":
            full[40, 10] = True
        case "diagonal":
            full[np.arange(10) + 30, np.arange(10) + 2] = True
        case "border":
            full[:, 60:] = full[44:, :] = True
        case "noise":
            full[10:30, 5:35] = np.random.default_rng(4).random((20, 30)) < 0.5
    return full


def drawn(*shapes: str, ids: Sequence[int | None] = (), labels: Sequence[str] = ()) -> Instances:
    """Objects of these masks; by default called ``person`` and numbered."""
    masks = [mask(shape) for shape in shapes]
    boxes = []
    for one in masks:
        ys, xs = np.nonzero(one)
        boxes.append((int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))
    found = instances(SIZE, boxes)
    names = tuple(labels) or found.labels
    return replace(
        found,
        labels=names,
        class_ids=np.array([("person", "bicycle", "car").index(name) for name in names], np.int64),
        crops=tuple(one[y1:y2, x1:x2] for one, (x1, y1, x2, y2) in zip(masks, boxes, strict=True)),
        ids=tuple(ids) or found.ids,
    )


def stored(*found: Instances, stream: str = "cam", first: int = 0, step: int = 1) -> list[FrameResult]:
    """A result for each: of the frames ``first``, ``first + step``, ..."""
    numbers = range(first, first + step * len(found), step)
    return [result_of(frame(n, stream=stream), one) for n, one in zip(numbers, found, strict=True)]


def write_results(path: Path, results: Iterable[FrameResult]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(result) + b"\n" for result in results))
    return path
