"""Writes the pictures of a recording that labels, made of stored results, belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from streamseg.errors import OutputError, UsageError
from streamseg.overlay.jpeg import encode_jpeg
from streamseg.results.export import picture_name
from streamseg.results.survey import Survey
from streamseg.runtime.render import check_epochs, is_of, recording
from streamseg.runtime.stored_frames import StoredFrames
from streamseg.sources import Source, default_stream_id
from streamseg.types import FrameResult

_QUALITY = 95
"""Of JPEG: what cameras and data sets use; a model sees no difference to the video."""


def match_videos(survey: Survey, videos: Sequence[str]) -> dict[str, Source]:
    """By stream, the recording that its results were made of.

    Told by the place that the results name, else by the file's name; a single stream has a single video.

    Raises UsageError for a video that no stream is of.
    """
    found: dict[str, Source] = {}
    for video in videos:
        source = recording(video)
        same = [name for name, one in survey.streams.items() if is_of(one, source)]
        named = [name for name in survey.streams if name == default_stream_id(video)]
        alone = list(survey.streams) if len(survey.streams) == len(videos) == 1 else []
        candidates = [name for name in same or named or alone if name not in found]
        if not candidates:
            raise UsageError(f"{video}: no results are of it; there are those of {', '.join(survey.streams)}")
        stream = candidates[0]
        check_epochs(survey.streams[stream], survey.streams[stream].paths[0])
        found[stream] = replace(source, id=stream)
    return found


def extract_frames(source: Source, results: Iterable[FrameResult], folder: Path, *, where: Path) -> int:
    """Write the frame of each result as ``NAME.jpg``; returns how many.

    Args:
        source: The recording.
        results: Of its stream, in order.
        folder: Is made if it is missing.
        where: File of the results, for messages.

    Raises:
        UsageError: The results are of another video.
        SourceError: It cannot be read.
        OutputError: A picture cannot be written.
    """
    count = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for frame, result in StoredFrames(source, results, where=where):
            jpeg = encode_jpeg(frame.pixels, quality=_QUALITY)
            (folder / f"{picture_name(result)}.jpg").write_bytes(jpeg)
            count += 1
    except OSError as error:
        raise OutputError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    return count
