"""Finds everything that is wrong with images and annotations, before anything is trained on them."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image, UnidentifiedImageError

from streamseg.training.data.coco import (
    AnnotationRow,
    CategoryRow,
    Content,
    ImageRow,
    Segmentation,
)

_FAR = 0.1
"""A polygon may leave its image by this part of the longer side: people draw past the border."""
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)
"""EXIF tag, and its values that swap height and width."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    text: str
    """Names the file and the id."""
    annotation: int | None = None
    """Place in the list of annotations, if leaving that one out would do."""


def check_content(
    content: Content, file: Path, classes: Sequence[str], *, complete: bool
) -> Iterator[Problem]:
    """What is wrong in a COCO file as such.

    ``complete``: every class has to be there, with annotations. Crowds and images without objects
    are fine, and so are categories that are no class.
    """
    if not content["images"]:
        yield Problem(f"{file}: holds no images")
    texts = [
        *_row_faults(content["images"], "image", ImageRow),
        *_row_faults(content["categories"], "category", CategoryRow),
        *(
            f"annotation number {k} has no id"
            for k, row in enumerate(content["annotations"])
            if _id(row) is None
        ),
        *_repeated_ids(content["annotations"], "annotation"),
    ]
    categories = {id_: row.get("name") for row in content["categories"] if (id_ := _id(row)) is not None}
    if complete:
        texts += _class_faults(content["annotations"], categories, classes)
    yield from (Problem(f"{file}: {text}") for text in texts)
    images = {id_: row for row in content["images"] if (id_ := _id(row)) is not None}
    for place, row in enumerate(content["annotations"]):
        fault = _annotation_fault(row, images, categories)
        if fault is not None:
            yield Problem(f"{file}: annotation {_name(row, place)}: {fault}", place)


def _id(row: Any) -> int | None:
    id_ = row.get("id") if isinstance(row, dict) else None
    return id_ if isinstance(id_, int) else None


def _name(row: Any, place: int) -> str:
    id_ = _id(row)
    return f"number {place}" if id_ is None else str(id_)


def _row_faults(rows: Sequence[Any], kind: str, type_: type[ImageRow | CategoryRow]) -> Iterator[str]:
    """Rows that are not of a type, and ids that are there twice."""
    for place, row in enumerate(rows):
        fault = _fault(row, type_)
        if fault is not None:
            yield f"{kind} {_name(row, place)}: {fault}"
    yield from _repeated_ids(rows, kind)


def _repeated_ids(rows: Sequence[Any], kind: str) -> Iterator[str]:
    ids = Counter(id_ for row in rows if (id_ := _id(row)) is not None)
    yield from (f"{kind} id {id_} is there {n} times" for id_, n in ids.items() if n > 1)


def _fault(row: Any, type_: type[msgspec.Struct]) -> str | None:
    """Why a row is not of a type, such as "expected `float`, got `str` in `bbox[0]`"."""
    try:
        msgspec.convert(row, type_)
    except msgspec.ValidationError as error:
        text = str(error).replace(" - at `$.", " in `")
        return text[0].lower() + text[1:]
    return None


def _class_faults(
    annotations: Sequence[Any], categories: Mapping[int, Any], classes: Sequence[str]
) -> Iterator[str]:
    used = {row["category_id"] for row in annotations if isinstance(_get(row, "category_id"), int)}
    names = {categories[id_] for id_ in used if id_ in categories}
    for name in classes:
        if name not in categories.values():
            yield f"no category is called {name!r}; there are {', '.join(map(str, categories.values()))}"
        elif name not in names:
            yield f"class {name!r} has no annotations"


def _get(row: Any, key: str) -> Any:
    return row.get(key) if isinstance(row, dict) else None


def _annotation_fault(row: Any, images: Mapping[int, Any], categories: Mapping[int, Any]) -> str | None:
    """What is wrong with an annotation, if anything. ``images``: rows by id; ``categories``: names by id."""
    fault = _fault(row, AnnotationRow)
    if fault is not None:
        return fault
    if row["image_id"] not in images:
        return f"its image {row['image_id']} is not in the file"
    for id_ in (row["category_id"], *row.get("possible_category_ids", ())):
        if id_ not in categories:
            return f"its category {id_} is not in the file"
    image = images[row["image_id"]]
    if _fault(image, ImageRow) is not None:
        return None  # reported of the image
    height, width = image["height"], image["width"]
    return _box_fault(row["bbox"], height, width) or _mask_fault(row["segmentation"], height, width)


def _box_fault(box: Sequence[float], height: int, width: int) -> str | None:
    x, y, w, h = box
    if not all(map(math.isfinite, box)):
        return f"its box {box} is not finite"
    if w <= 0 or h <= 0:
        return f"its box {box} has no area"
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return f"its box {box} lies outside of its image ({width} x {height})"
    return None


def _mask_fault(segmentation: Segmentation, height: int, width: int) -> str | None:
    if not segmentation:
        return "its segmentation is empty"
    if isinstance(segmentation, list):
        return next(
            (text for p in segmentation if (text := _polygon_fault(p, height, width)) is not None), None
        )
    if "counts" not in segmentation or segmentation.get("size") != [height, width]:
        return f"its run lengths are of size {segmentation.get('size')}, not {[height, width]}"
    return None


def _polygon_fault(polygon: Sequence[float], height: int, width: int) -> str | None:
    if len(polygon) < 6 or len(polygon) % 2 or not all(map(math.isfinite, polygon)):
        return "it has a polygon that is not x, y of at least three points"
    beyond = max(-min(polygon), max(polygon[::2]) - width, max(polygon[1::2]) - height)
    if beyond > max(2, _FAR * max(height, width)):
        return f"its polygon leaves its image ({width} x {height}) by {beyond:.0f} pixels"
    return None


def check_image_files(content: Content, file: Path, folder: Path) -> list[Problem]:
    """Image files that are missing, unreadable or of another size than the COCO file says (headers only)."""
    rows = [row for row in content["images"] if _fault(row, ImageRow) is None]
    with ThreadPoolExecutor(max_workers=16) as threads:  # waiting for a disk, or the network behind it
        found = threads.map(lambda row: _file_fault(row, folder), rows, chunksize=64)
        faults = zip(rows, found, strict=True)
        return [Problem(f"{file}: image {row['id']}: {text}") for row, text in faults if text is not None]


def _file_fault(row: Mapping[str, Any], folder: Path) -> str | None:
    path = folder / str(row["file_name"])
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION) in _TURNED
    except FileNotFoundError:
        return f"{path} is missing"
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        return f"{path} is not a readable image ({type(error).__name__})"
    if turned:
        width, height = height, width
    if (row["width"], row["height"]) != (width, height):
        note = " as its EXIF orientation turns it" if turned else ""
        return f"{path} is {width} x {height}{note}, the file says {row['width']} x {row['height']}"
    return None
