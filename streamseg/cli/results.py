"""``streamseg results``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streamseg.cli.logs import configure_logging
from streamseg.cli.overlay import names_in
from streamseg.cli.say import say
from streamseg.config import hint
from streamseg.errors import UsageError

if TYPE_CHECKING:
    from streamseg.results.export import Export, Format, Shapes
    from streamseg.results.survey import StreamSurvey, Survey
    from streamseg.types import FrameResult

EXAMPLE = "Example: streamseg results street.ndjson --to coco labels/ --video street.mp4 --stride 10"


@click.command("results", epilog=EXAMPLE)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE.ndjson...")
@click.argument("out", type=click.Path(path_type=Path), metavar="OUT")
@click.option(
    "--to",
    "format_",
    required=True,
    type=click.Choice(["coco", "yolo", "cvat", "mots", "csv"]),
    help="What is made of them.",
)
@click.option(
    "--video",
    "videos",
    multiple=True,
    metavar="VIDEO",
    help="coco, yolo: write the labelled frames of this video as pictures; may be repeated.",
)
@click.option(
    "--shapes",
    type=click.Choice(["masks", "polygons"]),
    help="coco, cvat: exact masks, or polygons.  [default: coco masks, cvat polygons]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, max=100),
    metavar="PIXELS",
    help="Polygons may be so far off to have fewer corners; 0 is exact.  [default: cvat 1, others 0]",
)
@click.option("--classes", metavar="NAMES", help="Keep only these classes, e.g. person,car.")
@click.option(
    "--score",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Keep objects of at least this score.",
)
@click.option(
    "--stride", type=click.IntRange(min=1), default=1, show_default=True, help="Every Nth result of a stream."
)
@click.option("--no-progress", is_flag=True, help="No progress bar.")
def results(
    *,
    files: tuple[Path, ...],
    out: Path,
    format_: Format,
    videos: tuple[str, ...],
    shapes: Shapes | None,
    tolerance: float | None,
    classes: str | None,
    score: float,
    stride: int,
    no_progress: bool,
) -> None:
    """Make labels for other tools of stored results.

    FILE is an NDJSON file of a run, or a folder of them. OUT is a file (coco .json, cvat .xml, mots .txt,
    csv .csv), or a new folder.

    What a format cannot hold is told in one line.
    """
    configure_logging("warning", as_json=False)
    _check_options(format_, videos, shapes)
    from tqdm import tqdm

    from streamseg.results.export import Export
    from streamseg.results.survey import Selection, result_files

    wanted = None if classes is None else names_in(classes)
    selection = Selection(classes=wanted, score=score, stride=stride)
    export = Export.of(result_files(files), format_, out, selection)
    known = _classes_of_model(export.survey)
    _check_classes(wanted, export.survey, known)
    _extract(export, videos)

    def watch(every: Iterable[FrameResult]) -> Iterable[FrameResult]:
        hidden = no_progress or not sys.stderr.isatty()
        return tqdm(every, total=export.survey.results, unit="frame", disable=hidden, dynamic_ncols=True)

    remarks = export.write(shapes=shapes, tolerance=tolerance, known=known, watch=watch)
    say(f"{export.survey.results} frames, {export.survey.objects} objects in {out}")
    if remarks:
        say("; ".join(remarks))


def _check_options(format_: Format, videos: tuple[str, ...], shapes: Shapes | None) -> None:
    """Raises UsageError for an option that means nothing to the format."""
    if videos and format_ not in {"coco", "yolo"}:
        raise UsageError(f"--video: labels for {format_} have no pictures beside them; coco and yolo do")
    if shapes and format_ not in {"coco", "cvat"}:
        raise UsageError(f"--shapes: labels for {format_} have one kind of shape; coco and cvat have two")


def _classes_of_model(survey: Survey) -> tuple[str, ...]:
    """All class names of the model that made the results, if it is a bundled one."""
    from streamseg.models.weights.files import bundled_weights, read_spec

    bundled = bundled_weights()
    if len(survey.models) == 1 and (path := bundled.get(next(iter(survey.models)))) is not None:
        return tuple(read_spec(path).classes)
    return ()


def _check_classes(wanted: list[str] | None, survey: Survey, known: tuple[str, ...]) -> None:
    there = sorted(survey.all_labels.union(known))
    for name in wanted or ():
        if name not in there:
            raise UsageError(
                f"--classes: {name!r}{hint(name, there)} is no class of these results; there are "
                f"{', '.join(there) or 'none'}"
            )


def _extract(export: Export, videos: tuple[str, ...]) -> None:
    """Write the pictures that labels name, or say which they are."""
    folder = export.images
    if folder is None:
        return
    from streamseg.runtime.extract import extract_frames, match_videos

    sources = match_videos(export.survey, videos)
    if sources and folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder}: there are files in it already; name a new place for the labels")
    for stream, source in sources.items():
        found = export.survey.streams[stream]
        count = extract_frames(source, export.results(stream), folder, where=found.paths[0])
        say(f"{count} pictures in {folder}")
    for stream, found in export.survey.streams.items():
        if stream not in sources:
            say(_missing(found, folder))


def _missing(found: StreamSurvey, folder: Path) -> str:
    """Says which pictures the labels of a stream name."""
    from streamseg.results.export import picture_name

    first, last = found.first, found.last
    frames = f"frame {first.frame}" if first == last else f"frames {first.frame} to {last.frame}"
    source = f" of {first.source}" if first.source else ""
    names = dict.fromkeys(f"{picture_name(one)}.jpg" for one in (first, last))
    return (
        f"the labels name pictures that are not written, {' to '.join(names)} in {folder}: they are "
        f"{frames}{source}; add --video VIDEO to have them"
    )
