"""What stored results hold, found out before anything is made of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from streamseg.errors import UsageError
from streamseg.files import partial_path
from streamseg.masks.rle import runs_of
from streamseg.results.reading import read_results
from streamseg.types.results import FrameResult, InstanceResult

_ENDINGS = ("*.ndjson", "*.ndjson.gz")

Track = tuple[int, int]
"""Epoch and id of a tracked object: ids begin anew with every epoch."""


@dataclass(slots=True)
class StreamSurvey:
    """The results of one stream."""

    first: FrameResult
    last: FrameResult
    paths: list[Path]
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Widths and heights of its pictures."""
    labels: dict[Track, Counter[str]] = field(default_factory=dict)
    """How often a tracked object was called what."""

    def label_of(self, track: Track) -> str:
        """What a tracked object was called most often."""
        return self.labels[track].most_common(1)[0][0]


@dataclass(slots=True)
class Survey:
    """The results of some files."""

    streams: dict[str, StreamSurvey] = field(default_factory=dict)
    classes: set[tuple[str, int]] = field(default_factory=set)
    """Labels and class ids that occur together."""
    all_labels: set[str] = field(default_factory=set)
    """Those of objects that are not wanted, too."""
    counts: Counter[Path] = field(default_factory=Counter)
    """Results of each file."""
    models: set[str] = field(default_factory=set)
    counting: set[str] = field(default_factory=set)
    """Names of zones and lines at which objects were counted."""

    objects: int = 0

    @property
    def labels(self) -> set[str]:
        """Of the objects that are wanted."""
        return {label for label, _ in self.classes}

    @property
    def results(self) -> int:
        """How many there are."""
        return self.counts.total()

    def add(self, result: FrameResult, path: Path) -> None:
        """Take in the next result of a file. Raises UsageError if an object is not what it says it is."""
        stream = self.streams.get(result.stream)
        if stream is None:
            stream = self.streams[result.stream] = StreamSurvey(result, result, [path])
        if stream.paths[-1] != path:
            stream.paths.append(path)
        stream.last = result
        self.counts[path] += 1
        stream.sizes[result.width, result.height] += 1
        self.models.add(result.model)
        if result.counts is not msgspec.UNSET:
            self.counting.update(result.counts)
        for instance in result.instances:
            if (fault := _fault(instance, result)) is not None:
                where = f"{path}: frame {result.frame} of stream {result.stream}"
                raise UsageError(f"{where}: object {instance.label!r} {fault}")
            self.objects += 1
            self.classes.add((instance.label, instance.class_id))
            if instance.id is not None:
                stream.labels.setdefault((result.epoch, instance.id), Counter())[instance.label] += 1


def _fault(instance: InstanceResult, result: FrameResult) -> str | None:
    """Why mask and box of an object cannot be right; None if they can."""
    height, width = instance.rle.size
    if (height, width) != (result.height, result.width):
        return f"has a mask of {width}x{height} in a picture of {result.width}x{result.height}"
    x1, y1, x2, y2 = instance.box
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        return f"has the box {instance.box}, which is empty or not in the picture of {width}x{height}"
    try:
        runs = runs_of(instance.rle)
    except ValueError as error:
        return f"has a mask that cannot be read ({error})"
    return None if runs[1::2].any() else "has an empty mask"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of the stored results and of their objects are wanted."""

    classes: Collection[str] | None = None
    """Labels to keep; None keeps all."""
    score: float = 0.0
    """Lowest score to keep."""
    stride: int = 1
    """N: every Nth result of each stream."""

    def of(self, results: Iterable[FrameResult]) -> Iterator[FrameResult]:
        """Those that are wanted, with the objects that are wanted."""
        seen: Counter[str] = Counter()
        for result in results:
            seen[result.stream] += 1
            if (seen[result.stream] - 1) % self.stride == 0:
                kept = tuple(filter(self._wants, result.instances))
                yield msgspec.structs.replace(result, instances=kept)

    def _wants(self, instance: InstanceResult) -> bool:
        wanted = self.classes is None or instance.label in self.classes
        return wanted and instance.score >= self.score


def survey_results(paths: Sequence[Path], selection: Selection | None = None) -> Survey:
    """Read all results once. Raises UsageError if there is none, or one that cannot be read."""
    survey, selection = Survey(), selection or Selection()
    for path in paths:
        for result in selection.of(_noting_labels(read_results(path), survey.all_labels)):
            survey.add(result, path)
    if not survey.streams:
        raise UsageError(f"{', '.join(map(str, paths))}: holds no results")
    return survey


def _noting_labels(results: Iterable[FrameResult], labels: set[str]) -> Iterator[FrameResult]:
    for result in results:
        labels.update(instance.label for instance in result.instances)
        yield result


def result_files(places: Iterable[Path]) -> list[Path]:
    """The files that are named, and of folders the NDJSON files in them, by name.

    Raises UsageError for a folder that has none, and for a file that is named twice.
    """
    files: list[Path] = []
    for place in places:
        files += _in_folder(place) if place.is_dir() else [place]
    twice = [path for path, count in Counter(path.resolve() for path in files).items() if count > 1]
    if twice:
        raise UsageError(f"{twice[0]}: is named twice")
    return files


def _in_folder(folder: Path) -> list[Path]:
    found = sorted(path for ending in _ENDINGS for path in folder.glob(ending))
    if not found:
        partial = sorted(folder.glob(partial_path(Path(_ENDINGS[0])).name))
        there = f"; what an interrupted run left is in {partial[0]}" if partial else ""
        raise UsageError(f"{folder}: holds no .ndjson file{there}")
    return found
