"""Reading annotations in COCO format."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from streamseg.errors import UsageError


@dataclass(frozen=True, slots=True)
class CocoObject:
    """One annotation."""

    class_id: int
    """0-based index into the model's classes."""
    box: tuple[float, float, float, float]
    """x, y, width, height in image pixels."""
    segmentation: Any
    """Polygons or run lengths, as in the file."""
    crowd: bool
    unknown_vehicle: bool

    def mask(self, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width) uint8 0/1."""
        encoded = self.segmentation
        if isinstance(encoded, list):
            encoded = coco_mask.merge(coco_mask.frPyObjects(encoded, height, width))
        elif isinstance(encoded["counts"], list):
            encoded = coco_mask.frPyObjects(encoded, height, width)
        decoded: NDArray[np.uint8] = coco_mask.decode(encoded)
        return decoded


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image with its annotations."""

    id: int
    path: Path
    height: int
    width: int
    objects: tuple[CocoObject, ...]
    exhaustive: frozenset[int]
    """Class ids of which every object is annotated; of the others a missing one means nothing."""


def read_coco(annotations: Path, images: Path, classes: tuple[str, ...]) -> list[CocoImage]:
    """Read a COCO file; categories are matched to ``classes`` by name, other ones are left out.

    Raises UsageError if the file cannot be read or holds none of the classes.
    """
    try:
        content = json.loads(annotations.read_text())
        class_of = {c["id"]: classes.index(c["name"]) for c in content["categories"] if c["name"] in classes}
        rows, marked = content["images"], content["annotations"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{annotations}: not a readable COCO annotation file ({error})") from error
    if not class_of:
        raise UsageError(f"{annotations}: holds none of the classes {', '.join(classes)}")
    objects: dict[int, list[CocoObject]] = {}
    for row in marked:
        if row["category_id"] in class_of and row["segmentation"]:
            objects.setdefault(row["image_id"], []).append(_object(row, class_of))
    every = frozenset(class_of)
    return [
        CocoImage(
            id=row["id"],
            path=images / row["file_name"],
            height=row["height"],
            width=row["width"],
            objects=tuple(objects.get(row["id"], ())),
            exhaustive=frozenset(
                class_of[c] for c in row.get("exhaustive_category_ids", every) if c in class_of
            ),
        )
        for row in rows
    ]


def _object(row: dict[str, Any], class_of: dict[int, int]) -> CocoObject:
    x, y, width, height = row["bbox"]
    return CocoObject(
        class_id=class_of[row["category_id"]],
        box=(x, y, width, height),
        segmentation=row["segmentation"],
        crowd=bool(row.get("iscrowd", 0)),
        unknown_vehicle=bool(row.get("vehicle_of_unknown_type", False)),
    )
