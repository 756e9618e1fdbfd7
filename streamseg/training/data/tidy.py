"""What tools write in several ways and mean the same, in one form.

Nothing is judged here: what has no clear meaning stays as it is, for the check to name.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from streamseg.training.data.pictures import PictureFolder, header_size

Row = dict[str, Any]
Rows = dict[str, list[Any]]

_IMAGE_LISTS = ("exhaustive_category_ids", "neg_category_ids", "not_exhaustive_category_ids")


def tidy(content: Mapping[str, Any], folder: Path) -> Rows:
    """The lists of a COCO file with whole numbers as int, one spelling of masks, and LVIS's keys in ours.

    Sizes that an image lacks come from its file in ``folder``.
    """
    categories = _own_categories(
        _each(content["categories"], lambda row: _whole(row, "id")), content["annotations"]
    )
    annotations = _each(content["annotations"], _annotation)
    images = _each(content["images"], _image)
    images = _with_exhaustive(images, annotations, categories)
    return {"images": _with_sizes(images, folder), "annotations": annotations, "categories": categories}


def _each(rows: list[Any], change: Callable[[Row], Row]) -> list[Any]:
    return [change(row) if isinstance(row, dict) else row for row in rows]


def _whole(row: Row, *keys: str) -> Row:
    """With floats that are whole as int, JavaScript and pandas write those."""
    return row | {key: _int(row[key]) for key in keys if key in row}


def _int(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _ints(values: Any) -> Any:
    return [_int(value) for value in values] if isinstance(values, list) else values


def _image(row: Row) -> Row:
    row = _whole(row, "id", "height", "width")
    row |= {key: _ints(row[key]) for key in _IMAGE_LISTS if key in row}
    if not row.get("file_name") and isinstance(row.get("coco_url"), str) and row["coco_url"]:
        row["file_name"] = row["coco_url"]
    return row


def _annotation(row: Row) -> Row:
    row = _whole(row, "id", "image_id", "category_id", "iscrowd")
    if not row.get("bbox"):
        row.pop("bbox", None)
    if row.get("iscrowd", 0) is None:
        del row["iscrowd"]
    if "possible_category_ids" in row:
        row["possible_category_ids"] = _ints(row["possible_category_ids"])
    if "segmentation" in row:
        row["segmentation"] = _segmentation(row["segmentation"])
    return row


def _segmentation(given: Any) -> Any:
    if isinstance(given, dict):
        return given | {key: _ints(given[key]) for key in ("size", "counts") if key in given}
    if isinstance(given, list) and given and all(isinstance(value, int | float) for value in given):
        return [given]  # one polygon, not in a list of its own
    return given


def _own_categories(categories: list[Any], annotations: list[Any]) -> list[Any]:
    """Without those that only group others, as the first row of Roboflow's files: no object is of them."""
    groups = {str(row.get("supercategory")) for row in categories if isinstance(row, dict)}
    used = {str(row.get("category_id")) for row in annotations if isinstance(row, dict)}

    def only_groups(row: Row) -> bool:
        name, group = str(row.get("name")), str(row.get("supercategory"))
        return name in groups and name != group and str(row.get("id")) not in used

    return [row for row in categories if not (isinstance(row, dict) and only_groups(row))]


def _with_exhaustive(images: list[Any], annotations: list[Any], categories: list[Any]) -> list[Any]:
    """``exhaustive_category_ids`` from LVIS's two lists (LVIS paper, section 3.1, "Federated dataset").

    Of the categories in ``neg_category_ids`` an image has no object. Of those that it has annotations
    of, all objects are annotated, but for ``not_exhaustive_category_ids``. Nothing is known of others.
    """
    if not any(isinstance(row, dict) and row.keys() & set(_IMAGE_LISTS[1:]) for row in images):
        return images
    present: dict[str, set[int]] = {}
    for row in annotations:
        if isinstance(row, dict) and isinstance(row.get("category_id"), int):
            present.setdefault(str(row.get("image_id")), set()).add(row["category_id"])
    everything = {row["id"] for row in categories if isinstance(row, dict) and isinstance(row.get("id"), int)}
    return _each(images, lambda row: _exhaustive(row, present, everything))


def _exhaustive(row: Row, present: Mapping[str, set[int]], everything: set[int]) -> Row:
    exhaustive, negative, partly = lists = [row.get(key) for key in _IMAGE_LISTS]
    if not all(given is None or _is_ids(given) for given in lists):
        return row
    if exhaustive is not None:
        known = set(exhaustive)
    elif negative is not None:
        known = present.get(str(row.get("id")), set()) | set(negative)
    else:
        known = everything
    return row | {"exhaustive_category_ids": sorted(known - set(partly or ()))}


def _is_ids(given: Any) -> bool:
    return isinstance(given, list) and all(isinstance(value, int) for value in given)


def _with_sizes(images: list[Any], folder: Path) -> list[Any]:
    """Label Studio writes null for a picture that it could not open."""
    names = [str(row.get("file_name")) for row in images if isinstance(row, dict)]
    files = PictureFolder(folder, names)

    def sized(row: Row) -> Row:
        if row.get("height") is not None or row.get("width") is not None:
            return row
        size = header_size(files.find(str(row.get("file_name"))))
        return row if size is None else row | {"height": size[0], "width": size[1]}

    return _each(images, sized)
