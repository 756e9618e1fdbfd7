"""Tracks in the text format of the MOTS challenge.

See Voigtlaender et al., "MOTS: Multi-Object Tracking and Segmentation", 2019: one line for each object in
each frame, ``frame id class_id height width rle``. An object's id is its class times 1000 plus its number. No
two objects share a pixel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import numpy as np

from streamseg.files import complete_file
from streamseg.masks.rle import encode_crop
from streamseg.results.frame_result import instances_of
from streamseg.results.survey import StreamSurvey, Track
from streamseg.types.results import FrameResult

_FIXED = {"car": 1, "person": 2, "pedestrian": 2}
"""Classes that the challenge has."""
_IGNORED = 10
"""What it calls regions that are not scored."""
_MOST = 1000
"""Objects of a class whose ids keep clear of the next class's."""


def number_mots_classes(labels: Iterable[str]) -> dict[str, int]:
    """The challenge's own numbers for cars and people; other labels get the next ones."""
    others = sorted(set(labels) - _FIXED.keys())
    free = (number for number in range(3, 4 + len(others)) if number != _IGNORED)
    return {label: _FIXED[label] for label in _FIXED if label in set(labels)} | dict(
        zip(others, free, strict=False)
    )


def write_mots(
    results: Iterable[FrameResult], paths: Mapping[str, Path], surveys: Mapping[str, StreamSurvey]
) -> list[str]:
    """Write a file for each stream. Frames count from 1.

    Args:
        results: Of these streams.
        paths: Of the files, by stream.
        surveys: Of the streams: what an object was called most often is its class.

    Returns:
        What the files do not hold.

    Raises:
        OSError: They cannot be written.
    """
    labels = {one.label_of(track) for one in surveys.values() for track in one.labels}
    numbers = number_mots_classes(labels)
    lost: Counter[str] = Counter()
    with ExitStack() as stack:
        files = {}
        for stream, path in paths.items():
            partial = stack.enter_context(complete_file(path))
            file = stack.enter_context(partial.open("w", encoding="ascii"))
            files[stream] = _MotsFile(file, surveys[stream], numbers)
        for result in results:
            files[result.stream].add(result, lost)
    remarks = [f"classes are {', '.join(f'{label} {number}' for label, number in numbers.items())}"]
    remarks += [f"{what}: {count}" for what, count in lost.items()]
    return [*remarks, "scores are left out"]


class _MotsFile:
    def __init__(self, file: TextIO, survey: StreamSurvey, numbers: Mapping[str, int]) -> None:
        self._file, self._survey, self._numbers = file, survey, numbers
        self._ids: dict[Track, int] = {}
        counts = Counter(numbers[survey.label_of(track)] for track in survey.labels)
        self._step = _MOST * -(-(1 + max(counts.values(), default=0)) // _MOST)
        self._taken: Counter[int] = Counter()

    def add(self, result: FrameResult, lost: Counter[str]) -> None:
        """Write the lines of a frame; the pixels that objects share go to the one with the best score."""
        found = instances_of(result)
        free = np.ones((result.height, result.width), np.bool_)
        for i, id_ in enumerate(found.ids):
            if id_ is None:
                lost["left out without a track id"] += 1
                continue
            x1, y1, x2, y2 = box = found.boxes[i].tolist()
            crop = found.crops[i] & free[y1:y2, x1:x2]
            if (crop != found.crops[i]).any():
                lost["objects that leave pixels to one with a better score"] += 1
            if not crop.any():
                lost["left out, covered wholly by others"] += 1
                continue
            free[y1:y2, x1:x2] &= ~crop
            track = (result.epoch, id_)
            number = self._numbers[self._survey.label_of(track)]
            rle = encode_crop(crop, box, result.height, result.width)
            place = f"{result.frame + 1} {self._id_of(track, number)} {number}"
            self._file.write(f"{place} {result.height} {result.width} {rle.counts}\n")

    def _id_of(self, track: Track, number: int) -> int:
        if track not in self._ids:
            self._taken[number] += 1
            self._ids[track] = number * self._step + self._taken[number]
        return self._ids[track]
