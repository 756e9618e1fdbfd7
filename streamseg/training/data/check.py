"""Everything that is wrong with images and annotations, before anything is trained on them."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from streamseg.training.data.coco import Content

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
    for kind in ("image", "annotation", "category"):
        rows = content["categories" if kind == "category" else f"{kind}s"]
        yield from (Problem(f"{file}: {text}") for text in _identity(rows, kind))
    categories = {row["id"]: row.get("name") for row in content["categories"] if _has(row, "id")}
    if complete:
        yield from (Problem(f"{file}: {text}") for text in _classes(content, categories, classes))
    images = {row["id"]: row for row in content["images"] if _has(row, "id")}
    for place, row in enumerate(content["annotations"]):
        wrong = _annotation(row, images, categories)
        if wrong is not None:
            name = row.get("id", f"number {place}") if isinstance(row, dict) else f"number {place}"
            yield Problem(f"{file}: annotation {name}: {wrong}", place)


def _has(row: Any, *keys: str) -> bool:
    return isinstance(row, dict) and all(key in row for key in keys)


def _identity(rows: Sequence[Any], kind: str) -> Iterator[str]:
    """Rows without what they need, and ids that are there twice."""
    needed = {
        "image": ("id", "file_name", "height", "width"),
        "annotation": ("id",),
        "category": ("id", "name"),
    }[kind]
    for place, row in enumerate(rows):
        missing = [key for key in needed if not _has(row, key)]
        if missing:
            yield f"{kind} number {place} has no {', '.join(missing)}"
    ids = Counter(row["id"] for row in rows if _has(row, "id"))
    yield from (f"{kind} id {id_} is there {n} times" for id_, n in ids.items() if n > 1)


def _classes(content: Content, categories: Mapping[int, str], classes: Sequence[str]) -> Iterator[str]:
    used = Counter(categories.get(r["category_id"]) for r in content["annotations"] if _has(r, "category_id"))
    for name in classes:
        if name not in categories.values():
            yield f"no category is called {name!r}; there are {', '.join(map(str, categories.values()))}"
        elif not used[name]:
            yield f"class {name!r} has no annotations"


def _annotation(
    row: Any, images: Mapping[int, Mapping[str, Any]], categories: Mapping[int, str]
) -> str | None:
    """What is wrong with an annotation, if anything."""
    missing = [k for k in ("image_id", "category_id", "bbox", "segmentation") if not _has(row, k)]
    if missing:
        return f"has no {', '.join(missing)}"
    if row["image_id"] not in images:
        return f"its image {row['image_id']} is not in the file"
    if row["category_id"] not in categories:
        return f"its category {row['category_id']} is not in the file"
    image = images[row["image_id"]]
    if not all(isinstance(image.get(side), int) for side in ("height", "width")):
        return None  # that is told of the image
    height, width = image["height"], image["width"]
    return _box(row["bbox"], height, width) or _segmentation(row["segmentation"], height, width)


def _numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values
    )


def _box(box: Any, height: int, width: int) -> str | None:
    if not _numbers(box) or len(box) != 4:
        return f"its box {box} is not x, y, width, height"
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return f"its box {box} has no area"
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return f"its box {box} lies outside of its image ({width} x {height})"
    return None


def _segmentation(segmentation: Any, height: int, width: int) -> str | None:
    if not segmentation:
        return "its segmentation is empty"
    if isinstance(segmentation, dict):
        if not _has(segmentation, "size", "counts") or list(segmentation["size"]) != [height, width]:
            return f"its run lengths are of size {segmentation.get('size')}, not {[height, width]}"
        return None
    if not isinstance(segmentation, list):
        return "its segmentation is neither polygons nor run lengths"
    return next((text for p in segmentation if (text := _polygon(p, height, width)) is not None), None)


def _polygon(polygon: Any, height: int, width: int) -> str | None:
    if not _numbers(polygon) or len(polygon) < 6 or len(polygon) % 2:
        return "it has a polygon that is not x, y of at least three points"
    beyond = max(-min(polygon), max(polygon[::2]) - width, max(polygon[1::2]) - height)
    if beyond > max(2, _FAR * max(height, width)):
        return f"its polygon leaves its image ({width} x {height}) by {beyond:.0f} pixels"
    return None


def check_pictures(content: Content, file: Path, folder: Path) -> list[Problem]:
    """Missing and unreadable pictures, and sizes that are not those in the file: headers only."""
    rows = [row for row in content["images"] if _has(row, "id", "file_name", "height", "width")]
    with ThreadPoolExecutor(max_workers=16) as threads:  # waiting for a disk, or the network behind it
        found = threads.map(lambda row: _picture(row, folder), rows, chunksize=64)
        told = zip(rows, found, strict=True)
        return [Problem(f"{file}: image {row['id']}: {text}") for row, text in told if text is not None]


def _picture(row: Mapping[str, Any], folder: Path) -> str | None:
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
