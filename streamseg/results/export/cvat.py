"""Tracks as "CVAT for video 1.1"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from streamseg.errors import UsageError
from streamseg.files import complete_file
from streamseg.masks.polygons import edge_parts, join_rings
from streamseg.results.frame_result import instances_of
from streamseg.results.survey import StreamSurvey
from streamseg.types.instances import Instances
from streamseg.types.results import FrameResult

Attributes = dict[str, str]


@dataclass(slots=True)
class _Object:
    """What is drawn of one object, by the frame's number."""

    label: str
    shapes: dict[int, Attributes] = field(default_factory=dict)

    def keyframes(self, after: Mapping[int, int]) -> Iterator[tuple[int, bool, Attributes]]:
        """Frame, whether the object is out of sight there, and shape.

        ``after``: the frame of the next result, by frame. CVAT draws an object on until it is told that it
        is gone.
        """
        for frame, shape in self.shapes.items():
            yield frame, False, shape
            if (gone := after.get(frame)) is not None and gone not in self.shapes:
                yield gone, True, shape


@dataclass(slots=True)
class _StreamTracks:
    frames: list[int] = field(default_factory=list)
    objects: dict[tuple[int, ...], _Object] = field(default_factory=dict)
    """By epoch and track id; one without an id, by its place among all."""
    pieces: int = 0
    """Objects of several pieces."""


def write_cvat(
    results: Iterable[FrameResult],
    paths: Mapping[str, Path],
    surveys: Mapping[str, StreamSurvey],
    *,
    masks: bool = False,
    tolerance: float = 1.0,
) -> list[str]:
    """Write a file for each stream: a track an object, with a polygon in each frame.

    Args:
        results: Of these streams.
        paths: Of the files, by stream.
        surveys: Of the streams: what an object was called most often is its label.
        masks: Exact masks instead of polygons. CVAT cannot track them: each becomes an object of its own.
        tolerance: See :func:`streamseg.masks.polygons.edge_parts`.

    Returns:
        What the files do not hold.

    Raises:
        UsageError: The pictures of a stream have several sizes.
        OSError: The files cannot be written.
    """
    _check_sizes(surveys)
    streams = {stream: _StreamTracks() for stream in paths}
    for result in results:
        _add(streams[result.stream], result, surveys[result.stream], masks=masks, tolerance=tolerance)
    for stream, path in paths.items():
        _write(path, stream, streams[stream], surveys[stream], masks=masks)
    remarks = ["scores are left out"]
    if masks:
        return [*remarks, "masks have no track ids"]
    remarks.append(f"outlines are up to {tolerance:g} pixels off" if tolerance else "outlines are exact")
    if pieces := sum(one.pieces for one in streams.values()):
        remarks.append(f"pieces of an object are joined by cuts without width: {pieces} times")
    if torn := sum(len(labels) > 1 for one in surveys.values() for labels in one.labels.values()):
        remarks.append(f"tracks with several labels have the most frequent one: {torn}")
    return remarks


def _check_sizes(surveys: Mapping[str, StreamSurvey]) -> None:
    for stream, survey in surveys.items():
        if len(survey.sizes) > 1:
            sizes = ", ".join(f"{width}x{height}" for width, height in survey.sizes)
            raise UsageError(f"stream {stream} has pictures of {sizes}: a CVAT task has one size")


def _add(
    stream: _StreamTracks, result: FrameResult, survey: StreamSurvey, *, masks: bool, tolerance: float
) -> None:
    found = instances_of(result)
    stream.frames.append(result.frame)
    for i, id_ in enumerate(found.ids):
        tracked = id_ is not None and not masks
        label = survey.label_of((result.epoch, id_)) if tracked and id_ is not None else found.labels[i]
        key = (result.epoch, id_) if tracked and id_ is not None else (len(stream.objects), 0, 0)
        if masks:
            shape = _mask(found, i)
        else:
            shape, pieces = _polygon(found, i, tolerance)
            stream.pieces += pieces > 1
        stream.objects.setdefault(key, _Object(label)).shapes[result.frame] = shape


def _polygon(found: Instances, i: int, tolerance: float) -> tuple[Attributes, int]:
    parts = edge_parts(found.crops[i], found.boxes[i].tolist(), tolerance=tolerance)
    ring = join_rings([part.ring() for part in parts])
    return {"points": ";".join(f"{x:g},{y:g}" for x, y in ring.tolist())}, len(parts)


def _mask(found: Instances, i: int) -> Attributes:
    x1, y1, x2, y2 = found.boxes[i].tolist()
    runs = ", ".join(map(str, _runs(found.crops[i]).tolist()))
    return {"rle": runs, "left": f"{x1}", "top": f"{y1}", "width": f"{x2 - x1}", "height": f"{y2 - y1}"}


def _runs(crop: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of the runs of a mask, row by row, zeros first."""
    flat = crop.ravel()
    edges = np.flatnonzero(np.diff(flat, prepend=False))
    return np.diff(edges, prepend=0, append=flat.size)


def _write(path: Path, name: str, stream: _StreamTracks, survey: StreamSurvey, *, masks: bool) -> None:
    shape = "mask" if masks else "polygon"
    after = dict(pairwise(stream.frames))
    with complete_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        file.write(_text(_meta(name, stream, survey, shape)))
        for number, one in enumerate(stream.objects.values()):
            track = ElementTree.Element("track", id=f"{number}", label=one.label, source="auto")
            for frame, outside, drawn in one.keyframes(after):
                state = {"frame": f"{frame}", "keyframe": "1", "outside": f"{outside:d}", "occluded": "0"}
                ElementTree.SubElement(track, shape, state | drawn | {"z_order": "0"})
            file.write(_text(track))
        file.write("</annotations>\n")


def _meta(name: str, stream: _StreamTracks, survey: StreamSurvey, shape: str) -> ElementTree.Element:
    meta = ElementTree.Element("meta")
    task = ElementTree.SubElement(meta, "task")
    for tag, text in (("name", name), ("size", f"{max(stream.frames) + 1}"), ("mode", "interpolation")):
        ElementTree.SubElement(task, tag).text = text
    labels = ElementTree.SubElement(task, "labels")
    for text in sorted({one.label for one in stream.objects.values()}):
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = text
        ElementTree.SubElement(label, "type").text = shape
        ElementTree.SubElement(label, "attributes")
    size = ElementTree.SubElement(task, "original_size")
    for tag, pixels in zip(("width", "height"), next(iter(survey.sizes)), strict=True):
        ElementTree.SubElement(size, tag).text = f"{pixels}"
    return meta


def _text(element: ElementTree.Element) -> str:
    ElementTree.indent(element)
    return ElementTree.tostring(element, encoding="unicode") + "\n"
