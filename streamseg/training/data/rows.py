"""What is wrong with a single row of a COCO file."""

import math
import re
from collections.abc import Container, Mapping, Sequence
from typing import Any

import msgspec

from streamseg.masks.rle import decompress
from streamseg.training.data.coco import AnnotationRow, CategoryRow, ImageRow, Segmentation
from streamseg.training.data.problems import Fault

_FAR = 0.1
"""A polygon may leave its image by this part of the longer side: people draw past the border."""


def row_fault(row: Any, type_: type[ImageRow | CategoryRow | AnnotationRow], rows: str) -> Fault | None:
    """Why a row is not of a type, such as "expected `float`, got `str` in `bbox[0]`"; ``rows``: its list."""
    try:
        msgspec.convert(row, type_)
    except msgspec.ValidationError as error:
        text = str(error).replace(" - at `$.", " in `")
        text = text[0].lower() + text[1:]
        return Fault(f"{rows}: {re.sub(r'[0-9]+', 'N', text)}", text)
    return None


def annotation_fault(
    row: Any, sizes: Mapping[int, tuple[int, int] | None], categories: Container[int]
) -> Fault | None:
    """What is wrong with an annotation, if anything. ``sizes``: height and width by image id."""
    fault = row_fault(row, AnnotationRow, "annotations")
    if fault is not None:
        return fault
    if row["image_id"] not in sizes:
        return Fault("annotations without an image", f"its image {row['image_id']} is not in the file")
    for id_ in (row["category_id"], *row.get("possible_category_ids", ())):
        if id_ not in categories:
            return Fault("annotations without a category", f"its category {id_} is not in the file")
    size = sizes[row["image_id"]]
    if size is None:
        return None  # reported of the image
    box = _box_fault(row["bbox"], *size) if row.get("bbox") is not None else None
    return box or _mask_fault(row["segmentation"], *size)


def _box_fault(box: Sequence[float], height: int, width: int) -> Fault | None:
    x, y, w, h = box
    if not all(map(math.isfinite, box)):
        return Fault("boxes that are not finite", f"its box {box} is not finite")
    if w <= 0 or h <= 0:
        return Fault("boxes without area", f"its box {box} has no area")
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        text = f"its box {box} lies outside of its image ({width} x {height})"
        return Fault("boxes outside of their images", text)
    return None


def _mask_fault(segmentation: Segmentation, height: int, width: int) -> Fault | None:
    if not segmentation:
        return Fault("annotations without a mask", "its segmentation is empty")
    if isinstance(segmentation, dict):
        return _run_lengths_fault(segmentation, height, width)
    faults = (_polygon_fault(polygon, height, width) for polygon in segmentation)
    return next((fault for fault in faults if fault is not None), None)


def _polygon_fault(polygon: Sequence[float], height: int, width: int) -> Fault | None:
    if len(polygon) < 6 or len(polygon) % 2 or not all(map(math.isfinite, polygon)):
        text = "it has a polygon that is not x, y of at least three points"
        return Fault("polygons that are not x, y of at least three points", text)
    beyond = max(-min(polygon), max(polygon[::2]) - width, max(polygon[1::2]) - height)
    if beyond > max(2, _FAR * max(height, width)):
        text = f"its polygon leaves its image ({width} x {height}) by {beyond:.0f} pixels"
        return Fault("polygons that leave their images", text)
    return None


def _run_lengths_fault(segmentation: Mapping[str, Any], height: int, width: int) -> Fault | None:
    if "counts" not in segmentation or segmentation.get("size") != [height, width]:
        text = f"its run lengths are of size {segmentation.get('size')}, not {[height, width]}"
        return Fault("run lengths of another size", text)
    counts = segmentation["counts"]
    if isinstance(counts, str):
        try:
            counts = decompress(counts).tolist()
        except ValueError as error:
            return Fault("run lengths that cannot be read", f"its run lengths cannot be read ({error})")
    counts = counts if isinstance(counts, list) else [counts]
    wrong = [count for count in counts if type(count) is not int]
    if wrong:
        text = f"its run lengths hold {_short(wrong[0])}, not whole numbers"
        return Fault("run lengths that are not whole numbers", text)
    if min(counts, default=0) < 0:
        return Fault("run lengths below 0", f"its run lengths hold {min(counts)}")
    if sum(counts) != height * width:
        text = f"its run lengths add up to {sum(counts)}, not {height} x {width} = {height * width} pixels"
        return Fault("run lengths that do not fill their images", text)
    return None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
