"""Labels as a COCO annotation file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from streamseg.files import complete_file
from streamseg.masks.polygons import edge_parts
from streamseg.results.export.pictures import picture_name
from streamseg.results.frame_result import instances_of
from streamseg.types.instances import Instances
from streamseg.types.results import FrameResult, InstanceResult

_ENCODE = msgspec.json.Encoder().encode


def write_coco(
    results: Iterable[FrameResult],
    path: Path,
    numbers: Mapping[str, int],
    *,
    polygons: bool = False,
    tolerance: float = 0.0,
) -> list[str]:
    """Write an annotation file; category ids are the classes' numbers plus 1.

    Args:
        results: Of any streams.
        path: Of the file.
        numbers: Of the classes, by label.
        polygons: A polygon for each part of an object, holes cut into it, instead of run lengths.
        tolerance: See :func:`streamseg.masks.polygons.edge_parts`.

    Returns:
        What the file does not hold.

    Raises:
        OSError: It cannot be written.
    """
    images: list[dict[str, Any]] = []
    count = 0
    with complete_file(path) as partial, partial.open("wb") as file:
        # The annotations go straight to the disk: there may be millions.
        file.write(b'{"annotations":[')
        for result in results:
            images.append(_image(result, len(images) + 1))
            found = instances_of(result)
            for i, instance in enumerate(result.instances):
                segmentation: Any = _polygons(found, i, tolerance) if polygons else instance.rle
                count += 1
                row = _annotation(instance, numbers, segmentation) | {"id": count, "image_id": len(images)}
                file.write((b",\n" if count > 1 else b"\n") + _ENCODE(row))
        categories = [{"id": number + 1, "name": label} for label, number in numbers.items()]
        rest = _ENCODE({"images": images, "categories": categories})
        file.write(b"\n]," + rest[1:] + b"\n")
    return [f"outlines are up to {tolerance:g} pixels off"] if polygons and tolerance else []


def _image(result: FrameResult, number: int) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": f"{picture_name(result)}.jpg",
        "width": result.width,
        "height": result.height,
        "stream": result.stream,
        "frame": result.frame,
        "pts": result.pts,
    }


def _annotation(instance: InstanceResult, numbers: Mapping[str, int], segmentation: Any) -> dict[str, Any]:
    x1, y1, x2, y2 = instance.box
    return {
        "category_id": numbers[instance.label] + 1,
        "segmentation": segmentation,
        "area": instance.area,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "iscrowd": 0,
        "score": instance.score,
        "track_id": instance.id,
    }


def _polygons(found: Instances, i: int, tolerance: float) -> list[list[float]]:
    corner = found.boxes[i].tolist()
    return [part.ring().ravel().tolist() for part in edge_parts(found.crops[i], corner, tolerance=tolerance)]
