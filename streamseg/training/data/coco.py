"""Reading annotations in COCO format."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from streamseg.errors import UsageError

Content = dict[str, Any]
"""A COCO file as it is: ``images``, ``annotations`` and ``categories``, lists of anything."""
_LISTS = ("images", "annotations", "categories")


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
        decoded: NDArray[np.uint8] = coco_mask.decode(_encode(self.segmentation, height, width))
        return decoded


def annotation_area(segmentation: Any, height: int, width: int) -> int:
    """Pixels of an annotation's mask."""
    return int(coco_mask.area(_encode(segmentation, height, width)))


def _encode(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Polygons or run lengths as pycocotools' compressed run lengths."""
    encoded = segmentation
    if isinstance(encoded, list):
        encoded = coco_mask.merge(coco_mask.frPyObjects(encoded, height, width))
    elif isinstance(encoded["counts"], list):
        encoded = coco_mask.frPyObjects(encoded, height, width)
    return dict(encoded)


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
    content = load_content(annotations)
    try:
        found = build_images(content, images, classes)
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{annotations}: not a readable COCO annotation file ({type(error).__name__}: {error})"
        ) from error
    if not any(c["name"] in classes for c in content["categories"]):
        raise UsageError(f"{annotations}: holds none of the classes {', '.join(classes)}")
    return found


def load_content(annotations: Path) -> Content:
    """Read a COCO file as it is. Raises UsageError if it is none."""
    try:
        content = json.loads(annotations.read_text())
    except OSError as error:
        raise UsageError(f"{annotations}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(f"{annotations}: not a readable COCO annotation file ({error})") from error
    missing = [k for k in _LISTS if not isinstance(content, dict) or not isinstance(content.get(k), list)]
    if missing:
        raise UsageError(
            f"{annotations}: not a readable COCO annotation file (it has no list {', '.join(missing)})"
        )
    return dict(content)


def build_images(content: Content, images: Path, classes: tuple[str, ...]) -> list[CocoImage]:
    """The images of a COCO file with their annotations of the classes.

    Raises KeyError, TypeError or ValueError if a row lacks what it needs.
    """
    class_of = {c["id"]: classes.index(c["name"]) for c in content["categories"] if c["name"] in classes}
    objects: dict[int, list[CocoObject]] = {}
    for row in content["annotations"]:
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
        for row in content["images"]
    ]


def _object(row: Mapping[str, Any], class_of: Mapping[int, int]) -> CocoObject:
    x, y, width, height = row["bbox"]
    return CocoObject(
        class_id=class_of[row["category_id"]],
        box=(x, y, width, height),
        segmentation=row["segmentation"],
        crowd=bool(row.get("iscrowd", 0)),
        unknown_vehicle=bool(row.get("vehicle_of_unknown_type", False)),
    )
