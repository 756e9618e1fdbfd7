"""Finds everything that is wrong with a COCO file and its pictures, before anything is trained or scored.

Training and evaluation use the same check, so both take the same files.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from streamseg.errors import UsageError
from streamseg.training.data.coco import (
    BadAnnotations,
    CategoryRow,
    Content,
    Crowds,
    ImageRow,
    extent,
    load_content,
)
from streamseg.training.data.names import missing_class, without_match
from streamseg.training.data.pictures import PictureFolder, decode_all
from streamseg.training.data.problems import Fault, Problem
from streamseg.training.data.rows import annotation_fault, row_fault
from streamseg.training.data.taught import CROWD, EMPTY, Sizes, Tally

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CocoFile:
    """A COCO file, the folder of its pictures, and what they are for."""

    file: Path
    folder: Path
    classes: Sequence[str]
    """The model's; categories are matched to them by name."""
    crowds: Crowds = "ignore"
    bad_annotations: BadAnnotations = "refuse"
    teach_crowds: str = "--crowds teach"
    """How the user sets ``crowds``."""
    sizes: Sizes | None = None
    """What is taught, if the file is there to train on: every class has to be there, with objects. None: it
    is there to be scored on."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the check found."""

    content: Content
    """Without annotations that are skipped."""
    problems: list[Problem]


def check_file(coco: CocoFile, *, again: bool = False, progress: bool) -> Checked:
    """Look at the whole file and at every pixel of its pictures; log what is left out.

    Crowds, images without objects and categories that are no class are fine. ``again``: another process
    of the run has done so already; no picture is decoded and nothing logged.
    """
    try:
        content = load_content(coco.file, coco.folder)
    except UsageError as error:
        text = str(error).removeprefix(f"{coco.file}: ")
        return Checked({}, [Problem(coco.file, Fault("unreadable files", text))])
    bad = {problem.annotation: problem for problem in _annotation_problems(content, coco.file)}
    kept = [row for place, row in enumerate(content["annotations"]) if place not in bad]
    tally = _tally(kept, content, coco)
    problems = [*_file_problems(content, coco, tally)]
    if coco.bad_annotations == "refuse":
        problems += bad.values()
    elif bad and not again:
        logger.warning("%d annotations left out, the first is %s", len(bad), next(iter(bad.values())))
    if not again:
        problems += _picture_problems(content, coco, progress=progress)
    if not problems and not again:
        _say_what_is_left_out(content, coco, tally)
    return Checked(content | {"annotations": kept}, problems)


def _say_what_is_left_out(content: Content, coco: CocoFile, tally: Tally) -> None:
    verb = "scored" if coco.sizes is None else "taught"
    for note in tally.notes(verb, teach_crowds=coco.teach_crowds):
        logger.warning("%s: %s", coco.file, note)
    names = [row["name"] for row in content["categories"]]
    if coco.sizes is None:
        for name in coco.classes:
            if name not in names:
                logger.warning("%s: class %r is not scored: %s", coco.file, name, missing_class(name, names))
    others = {row["id"]: row["name"] for row in content["categories"] if row["name"] not in coco.classes}
    used = Counter(row["category_id"] for row in content["annotations"])
    if others:
        text = "%s: categories that are no class, left out: %s (%d annotations)"
        logger.info(text, coco.file, ", ".join(others.values()), sum(used[id_] for id_ in others))


def _file_problems(content: Content, coco: CocoFile, tally: Tally) -> Iterator[Problem]:
    """What is wrong with the file apart from single annotations."""
    problem = partial(Problem, coco.file)
    if not content["images"]:
        yield problem(Fault("files", "holds no images"))
    if not coco.folder.is_dir():
        yield problem(Fault("folders", f"there is no folder {coco.folder}"))
    for rows, kind, type_ in (("images", "image", ImageRow), ("categories", "category", CategoryRow)):
        for place, row in enumerate(content[rows]):
            fault = row_fault(row, type_, rows)
            if fault is not None:
                yield problem(fault, f"{kind} {_name(row, place)}: ")
    for place, row in enumerate(content["annotations"]):
        if _id(row) is None:
            yield problem(Fault("annotations without an id", f"annotation number {place} has no id"))
    for rows, kind in (("images", "image"), ("categories", "category"), ("annotations", "annotation")):
        ids = Counter(id_ for row in content[rows] if (id_ := _id(row)) is not None)
        for id_, count in ids.items():
            if count > 1:
                text = f"{kind} id {id_} is there {count} times"
                yield problem(Fault(f"{kind} ids that are there again", text))
    yield from map(problem, _class_faults(content, coco, tally))


def _class_faults(content: Content, coco: CocoFile, tally: Tally) -> Iterator[Fault]:
    categories = [(row.get("id"), row.get("name")) for row in content["categories"] if isinstance(row, dict)]
    names = [str(name) for _, name in categories]
    for name, count in Counter(names).items():
        if count > 1 and name in coco.classes:
            ids = ", ".join(str(id_) for id_, other in categories if other == name)
            text = f"{count} categories are called {name!r} (ids {ids}); rename them, or make them one"
            yield Fault("names of several categories", text)
    if coco.sizes is None:
        yield from without_match(coco.classes, names)
        return
    for name in coco.classes:
        if name not in names:
            yield Fault("classes without a category", missing_class(name, names))
        elif not tally.objects[name]:
            yield Fault("classes without annotations", f"class {name!r} has no annotations")
        elif not tally.left(name):
            text = f"class {name!r} has no object that is ever taught: {tally.reasons(name)}"
            yield Fault("classes of which nothing is taught", text)


def _annotation_problems(content: Content, file: Path) -> Iterator[Problem]:
    categories = {id_ for row in content["categories"] if (id_ := _id(row)) is not None}
    sizes = {id_: _size(row) for row in content["images"] if (id_ := _id(row)) is not None}
    for place, row in enumerate(content["annotations"]):
        fault = annotation_fault(row, sizes, categories)
        if fault is not None:
            yield Problem(file, fault, f"annotation {_name(row, place)}: ", place)


def _tally(annotations: Sequence[Any], content: Content, coco: CocoFile) -> Tally:
    """Count the objects of the classes, ``annotations`` without those that cannot be right."""
    sizes = {id_: _size(row) for row in content["images"] if (id_ := _id(row)) is not None}
    names = {id_: row.get("name") for row in content["categories"] if (id_ := _id(row)) is not None}
    tally = Tally()
    for row in annotations:
        name, size = names[row["category_id"]], sizes[row["image_id"]]
        if name in coco.classes and size is not None:
            tally.add(name, _why_never(row, size, coco))
    return tally


def _why_never(row: Mapping[str, Any], size: tuple[int, int], coco: CocoFile) -> str | None:
    if row.get("iscrowd") and coco.crowds == "ignore":
        return CROWD
    found = extent(row["segmentation"], *size)
    if not found.area:
        return EMPTY
    return None if coco.sizes is None else coco.sizes.why_never(found.side, *size)


def _picture_problems(content: Content, coco: CocoFile, *, progress: bool) -> Iterator[Problem]:
    rows = [row for row in content["images"] if row_fault(row, ImageRow, "images") is None]
    files = PictureFolder(coco.folder, [row["file_name"] for row in rows])
    pictures = [(files.find(row["file_name"]), (row["height"], row["width"])) for row in rows]
    for place, fault in decode_all(pictures, progress=progress):
        yield Problem(coco.file, fault, f"image {rows[place]['id']}: ")


def _size(row: Any) -> tuple[int, int] | None:
    """Height and width of an image, None if its row is reported itself."""
    return None if row_fault(row, ImageRow, "images") is not None else (row["height"], row["width"])


def _id(row: Any) -> int | None:
    id_ = row.get("id") if isinstance(row, dict) else None
    return id_ if isinstance(id_, int) else None


def _name(row: Any, place: int) -> str:
    id_ = _id(row)
    return f"number {place}" if id_ is None else str(id_)
