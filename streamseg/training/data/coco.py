"""Reading annotations in COCO format."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from streamseg.errors import UsageError
from streamseg.training.data.pictures import PictureFolder, read_image
from streamseg.training.data.tidy import tidy

Content = dict[str, Any]
"""A COCO file: ``images``, ``annotations`` and ``categories``, lists of anything."""
Crowds = Literal["ignore", "teach"]
BadAnnotations = Literal["refuse", "skip"]
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
    neg_category_ids: list[int] | None = None
    not_exhaustive_category_ids: list[int] | None = None
    """LVIS's lists: part of ``exhaustive_category_ids`` by now."""
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
    segmentation: Segmentation
    bbox: tuple[float, float, float, float] | None = None
    """x, y, width, height in image pixels; only checked, boxes come from the masks."""
    iscrowd: int | bool = 0
    possible_category_ids: list[int] = []
    """The object may be of any of these categories; ``category_id`` is the best guess."""


@dataclass(frozen=True, slots=True)
class CocoObject:
    """One annotation."""

    class_id: int
    """0-based index into the model's classes."""
    segmentation: Any
    """Polygons or run lengths, as in the file."""
    crowd: bool
    also_possible: frozenset[int] = frozenset()
    """Class ids, beside its own, that the object may be."""

    def mask(self, height: int, width: int) -> NDArray[np.uint8]:
        """(height, width) uint8 0/1."""
        decoded: NDArray[np.uint8] = coco_mask.decode(_encode(self.segmentation, height, width))
        return decoded


@dataclass(frozen=True, slots=True)
class Extent:
    """How large a mask is."""

    area: int
    """Pixels."""
    side: float
    """sqrt(width * height) of its box, in image pixels; 0 without a pixel."""


def extent(segmentation: Any, height: int, width: int) -> Extent:
    """Of an annotation's mask."""
    encoded = _encode(segmentation, height, width)
    box = coco_mask.toBbox(encoded)
    return Extent(int(coco_mask.area(encoded)), math.sqrt(box[2] * box[3]))


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

    def read(self) -> NDArray[np.uint8]:
        """(height, width, 3) uint8 RGB. Raises UsageError if the file has become unreadable."""
        return read_image(self.path, (self.height, self.width))


Ambiguous = Mapping[str, Collection[str]]
"""By a key of annotations: the names of the classes that an object may be if the key's value is true."""


def load_content(annotations: Path, folder: Path) -> Content:
    """Read a COCO file of pictures in ``folder``, in one form (see :mod:`~streamseg.training.data.tidy`).

    Raises UsageError if it is none.
    """
    try:
        content = json.loads(annotations.read_bytes())  # UTF-8, -16 or -32, with or without a byte-order mark
    except OSError as error:
        raise UsageError(f"{annotations}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{annotations}: not a readable COCO annotation file ({error})") from error
    missing = [k for k in _LISTS if not isinstance(content, dict) or not isinstance(content.get(k), list)]
    if missing:
        raise UsageError(
            f"{annotations}: not a readable COCO annotation file (it has no list {', '.join(missing)})"
        )
    tidied: Content = content | tidy(content, folder)
    return tidied


def build_images(
    content: Content,
    folder: Path,
    classes: Sequence[str],
    *,
    ambiguous: Ambiguous | None = None,
    crowds: Crowds = "ignore",
) -> list[CocoImage]:
    """The images of a COCO file, which has been checked, with their annotations of the classes."""
    categories = msgspec.convert(content["categories"], list[CategoryRow])
    class_of = {row.id: classes.index(row.name) for row in categories if row.name in classes}
    marks = {key: [classes.index(name) for name in names] for key, names in (ambiguous or {}).items()}
    objects: dict[int, list[CocoObject]] = {}
    for given in content["annotations"]:
        row = msgspec.convert(given, AnnotationRow)
        if row.category_id in class_of and row.segmentation:
            marked = [class_id for key, ids in marks.items() if given.get(key) for class_id in ids]
            crowd = bool(row.iscrowd) and crowds == "ignore"
            objects.setdefault(row.image_id, []).append(_object(row, class_of, marked, crowd=crowd))
    rows = msgspec.convert(content["images"], list[ImageRow])
    files = PictureFolder(folder, [row.file_name for row in rows])
    return [_image(row, files.find(row.file_name), tuple(objects.get(row.id, ())), class_of) for row in rows]


def _image(
    row: ImageRow, path: Path, objects: tuple[CocoObject, ...], class_of: Mapping[int, int]
) -> CocoImage:
    listed = row.exhaustive_category_ids
    return CocoImage(
        id=row.id,
        path=path,
        height=row.height,
        width=row.width,
        objects=objects,
        exhaustive=frozenset(class_of[c] for c in (class_of if listed is None else listed) if c in class_of),
    )


def _object(
    row: AnnotationRow, class_of: Mapping[int, int], marked: Collection[int], *, crowd: bool
) -> CocoObject:
    """``marked``: class ids that the object may be, as its marks say."""
    class_id = class_of[row.category_id]
    listed = {class_of[c] for c in row.possible_category_ids if c in class_of}
    return CocoObject(
        class_id=class_id,
        segmentation=row.segmentation,
        crowd=crowd,
        also_possible=frozenset(listed.union(marked) - {class_id}),
    )
