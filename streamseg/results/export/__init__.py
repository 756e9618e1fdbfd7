"""Labels of other tools, made of stored results; each format has a file here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from streamseg.errors import OutputError, UsageError
from streamseg.files import check_writable
from streamseg.results.export.classes import number_classes
from streamseg.results.export.coco import write_coco
from streamseg.results.export.cvat import write_cvat
from streamseg.results.export.mots import write_mots
from streamseg.results.export.pictures import picture_name
from streamseg.results.export.table import write_csv
from streamseg.results.export.yolo import IMAGES, write_yolo
from streamseg.results.reading import read_results
from streamseg.results.survey import Selection, Survey, survey_results
from streamseg.types.results import FrameResult

__all__ = ["Export", "Format", "Shapes", "picture_name"]

Format = Literal["coco", "yolo", "cvat", "mots", "csv"]
Shapes = Literal["masks", "polygons"]

_ENDINGS: Mapping[Format, str] = {"coco": ".json", "yolo": "", "cvat": ".xml", "mots": ".txt", "csv": ".csv"}
_SHAPES: Mapping[Format, Shapes] = {"coco": "masks", "cvat": "polygons"}
"""What is written unless the user says otherwise; other formats have one kind."""


@dataclass(frozen=True, slots=True)
class Export:
    """Stored results that become labels of one format.

    Raises:
        UsageError: The results cannot be read, do not fit the format, or the files cannot be written.
    """

    files: Sequence[Path]
    format: Format
    out: Path
    selection: Selection
    survey: Survey

    @classmethod
    def of(cls, files: Sequence[Path], format_: Format, out: Path, selection: Selection) -> Export:
        """Read all results once, and make sure that there is a place for what is made of them."""
        export = cls(files, format_, out, selection, survey_results(files, selection))
        export._check()
        return export

    @property
    def images(self) -> Path | None:
        """Folder of the pictures that the labels name; None for formats that name none."""
        if self.format == "yolo":
            return self.out / IMAGES
        return self._file("annotations").parent / IMAGES if self.format == "coco" else None

    def results(self, stream: str | None = None) -> Iterator[FrameResult]:
        """All results that are wanted, or those of one stream."""
        for path in self.files:
            chosen = self.selection.of(read_results(path, warn=False))
            # No more than were looked at: the run that writes them may still go on.
            for result in islice(chosen, self.survey.counts[path]):
                if stream is None or result.stream == stream:
                    yield result

    def write(
        self,
        *,
        shapes: Shapes | None = None,
        tolerance: float | None = None,
        known: Sequence[str] = (),
        watch: Callable[[Iterable[FrameResult]], Iterable[FrameResult]] = lambda results: results,
    ) -> list[str]:
        """Write the labels.

        Args:
            shapes: What objects become, for formats that have both.
            tolerance: Pixels by which a polygon may be off, to have fewer corners.
            known: All class names of the model, in its order.
            watch: Is handed the results on their way, to show how far it is.

        Returns:
            What the labels do not hold.

        Raises:
            UsageError: The results do not fit the format.
            OutputError: A file cannot be written.
        """
        try:
            return self._write(watch(self.results()), shapes or _SHAPES.get(self.format), tolerance, known)
        except OSError as error:
            raise OutputError(f"cannot write {error.filename or self.out}: {error.strerror}") from error

    def _write(
        self,
        results: Iterable[FrameResult],
        shapes: Shapes | None,
        tolerance: float | None,
        known: Sequence[str],
    ) -> list[str]:
        numbers = number_classes(self.survey.classes, known)
        exact = tolerance or 0.0
        match self.format:
            case "coco":
                path, polygons = self._file("annotations"), shapes == "polygons"
                return write_coco(results, path, numbers, polygons=polygons, tolerance=exact)
            case "yolo":
                return write_yolo(results, self.out, numbers, tolerance=exact)
            case "cvat":
                rough = 1.0 if tolerance is None else tolerance
                masks = shapes == "masks"
                return write_cvat(results, self._paths(), self.survey.streams, masks=masks, tolerance=rough)
            case "mots":
                return write_mots(results, self._paths(), self.survey.streams)
            case "csv":
                return write_csv(results, self._file("results"))

    @property
    def _to_folder(self) -> bool:
        return self.out.suffix != _ENDINGS[self.format] or not _ENDINGS[self.format]

    def _file(self, stem: str) -> Path:
        """The file to write: the one that is named, or one in the folder that is named."""
        return self.out / (stem + _ENDINGS[self.format]) if self._to_folder else self.out

    def _paths(self) -> dict[str, Path]:
        """A file for each stream."""
        return {stream: self._file(stream) for stream in self.survey.streams}

    def _check(self) -> None:
        ending = _ENDINGS[self.format]
        if self._to_folder and self.out.suffix and not self.out.is_dir():
            allowed = f"a name that ends in {ending}, or a folder" if ending else "a folder"
            raise UsageError(f"{self.out}: labels for {self.format} go to {allowed}")
        if self._to_folder and self.out.is_dir() and any(self.out.iterdir()):
            raise UsageError(f"{self.out}: there are files in it already; name a new folder")
        if self.format in {"cvat", "mots"} and not self._to_folder and len(self.survey.streams) > 1:
            raise UsageError(
                f"{self.out}: {len(self.survey.streams)} streams need a folder, a file {ending} for each"
            )
        if self.format == "mots" and not any(stream.labels for stream in self.survey.streams.values()):
            raise UsageError("labels for mots need track ids, which these results do not have")
        for stream, found in self.survey.streams.items():
            if self.format != "csv" and len(found.paths) > 1:
                names = " and ".join(map(str, found.paths[:2]))
                raise UsageError(
                    f"{names} both hold results of the stream {stream}: their frames would be mixed up"
                )
        for path in self._paths().values() if self.format in {"cvat", "mots"} else [self._file("labels")]:
            check_writable(path)
