"""Reading annotations in COCO format."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from streamseg.errors import UsageError

Content = dict[str, Any]
"""A COCO file as it is: ``images``, ``annotations`` and ``categories``, lists of anything."""
Segmentation = list[list[float]] | dict[str, Any] | None
"""Polygons, or run lengths with ``size`` and ``counts``."""
_LISTS = ("images", "annotations", "categories")
_Side = Annotated[int, msgspec.Meta(ge=1)]


class ImageRow(msgspec.Struct, frozen=True):
    """What is used of an entry of ``images``."""

    id: int
    file_name: str
    height: _Side
    width: _Side
    exhaustive_category_ids: list[int] | None = None
    """The categories of which every object in the image is annotated; None stands for all."""


class CategoryRow(msgspec.Struct, frozen=True):
    """What is used of an entry of ``categories``."""

    id: int
    name: str


class AnnotationRow(msgspec.Struct, frozen=True):
    """What is used of an entry of ``annotations``."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    """x, y, width, height in image pixels."""
    segmentation: Segmentation
    iscrowd: int | bool = 0
    possible_category_ids: list[int] = []
    """The object may be of any of these categories; ``category_id`` is the best guess."""


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
    also_possible: frozenset[int] = frozenset()
    """Class ids, beside its own, that the object may be."""

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


Ambiguous = Mapping[str, Collection[str]]
"""By a key of annotations: the names of the classes that an object may be if the key's value is true."""


def read_coco(annotations: Path, images: Path, classes: tuple[str, ...]) -> list[CocoImage]:
    """Read a COCO file; categories are matched to ``classes`` by name, other ones are left out.

    Raises UsageError if the file cannot be read or holds none of the classes.
    """
    content = load_content(annotations)
    try:
        found = build_images(content, images, classes)
    except ValueError as error:
        raise UsageError(f"{annotations}: not a readable COCO annotation file ({error})") from error
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


def build_images(
    content: Content, images: Path, classes: Sequence[str], ambiguous: Ambiguous | None = None
) -> list[CocoImage]:
    """The images of a COCO file with their annotations of the classes.

    Raises ValueError if a row lacks what it needs.
    """
    categories = msgspec.convert(content["categories"], list[CategoryRow])
    class_of = {row.id: classes.index(row.name) for row in categories if row.name in classes}
    marks = {key: [classes.index(name) for name in names] for key, names in (ambiguous or {}).items()}
    objects: dict[int, list[CocoObject]] = {}
    for given in content["annotations"]:
        row = msgspec.convert(given, AnnotationRow)
        if row.category_id in class_of and row.segmentation:
            marked = [class_id for key, ids in marks.items() if given.get(key) for class_id in ids]
            objects.setdefault(row.image_id, []).append(_object(row, class_of, marked))
    return [
        _image(row, images, tuple(objects.get(row.id, ())), class_of)
        for row in msgspec.convert(content["images"], list[ImageRow])
    ]


def _image(
    row: ImageRow, folder: Path, objects: tuple[CocoObject, ...], class_of: Mapping[int, int]
) -> CocoImage:
    listed = row.exhaustive_category_ids
    return CocoImage(
        id=row.id,
        path=folder / row.file_name,
        height=row.height,
        width=row.width,
        objects=objects,
        exhaustive=frozenset(class_of[c] for c in (class_of if listed is None else listed) if c in class_of),
    )


def _object(row: AnnotationRow, class_of: Mapping[int, int], marked: Collection[int]) -> CocoObject:
    """``marked``: class ids that the object may be, as its marks say."""
    class_id = class_of[row.category_id]
    listed = {class_of[c] for c in row.possible_category_ids if c in class_of}
    return CocoObject(
        class_id=class_id,
        box=row.bbox,
        segmentation=row.segmentation,
        crowd=bool(row.iscrowd),
        also_possible=frozenset(listed.union(marked) - {class_id}),
    )
