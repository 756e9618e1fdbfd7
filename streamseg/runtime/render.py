"""Painting stored results on their video: what a run paints, without its model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from streamseg.config import OverlayOptions, hint
from streamseg.errors import UsageError
from streamseg.models.weights.files import bundled_weights, read_spec
from streamseg.outputs import VideoOutput
from streamseg.results.frame_result import instances_of
from streamseg.results.reading import read_results
from streamseg.results.survey import StreamSurvey, Survey, survey_results
from streamseg.runtime.stored_frames import StoredFrames
from streamseg.sources import Source, is_live, place_key, source_for
from streamseg.types import FrameResult, StreamEnd, StreamInfo, StreamWriter
from streamseg.zones import StreamRules

logger = logging.getLogger(__name__)


class Render:
    """An overlay video made of a recording and the results that a run stored of it."""

    def __init__(
        self,
        video: str,
        results: Path,
        output: str,
        *,
        stream: str | None = None,
        overlay: OverlayOptions | None = None,
        streams: Sequence[tuple[Source, StreamRules]] = (),
        observe: Callable[[StreamInfo | FrameResult], None] = lambda _: None,
    ) -> None:
        """Read all results once; the video is not opened yet.

        Args:
            video: The recording.
            results: An NDJSON file.
            output: As for the overlay of a run.
            stream: Id of the stream, if the file holds several and none is of this video.
            overlay: What is painted.
            streams: Those of the run's configuration; the one of this id tells the places of zones and lines,
                and how the video was read.
            observe: Hears of the opening and of every result.

        Raises:
            UsageError: The results cannot be read or are not of this video, or the output cannot be written.
        """
        overlay = overlay or OverlayOptions()
        self._results, self._observe = results, observe
        survey = survey_results([results])
        source = recording(video)
        self._stream = choose_stream(survey, source, results, wanted=stream)
        check_epochs(survey.streams[self._stream], results)
        _check_blur(overlay, survey, results)
        configured = {one.id: (one, its_rules) for one, its_rules in streams}
        as_run, of_run = configured.get(self._stream, (source, StreamRules()))
        if overlay.places and survey.counting and not of_run.watching:
            text = "zones and lines (%s) are not painted: no -c FILE has them for stream %s"
            logger.warning(text, ", ".join(sorted(survey.counting)), self._stream)
        rules = {self._stream: of_run} if survey.counting else {}
        self._output = VideoOutput(output, overlay=overlay, rules=rules)
        self._output.check([self._stream])
        self.path = self._output.path(self._stream)
        """What is written."""
        if Path(video).exists() and self.path.exists() and self.path.samefile(video):
            raise UsageError(f"{self.path} is the video itself, the overlay needs another name")
        stored = (one for one in read_results(results, warn=False) if one.stream == self._stream)
        source = replace(source, id=self._stream, decode=as_run.decode, deinterlace=as_run.deinterlace)
        self._frames = StoredFrames(source, stored, where=results)
        self.painted = 0
        """Results that are painted."""

    def stop(self) -> None:
        """Finish the video with what is painted by now; any thread."""
        self._frames.stop()

    def run(self) -> None:
        """Paint all results.

        Raises:
            StreamsegError: Results and video do not fit each other, the one cannot be read, or the other
                cannot be written. What is painted by then stays in the partial file.
        """
        writer: StreamWriter | None = None
        try:
            for frame, result in self._frames:
                if writer is None:
                    assert self._frames.info is not None
                    writer = self._output.open(self._frames.info)
                    self._observe(self._frames.info)
                writer.write(result, frame, instances_of(result))
                self.painted += 1
                self._observe(result)
        except BaseException:
            if writer is not None:
                writer.close(StreamEnd.FAILED)
            raise
        if writer is not None:
            # Where the results end before the video does, the sound ends with them.
            whole = not (self._frames.stopped or self._frames.goes_on)
            writer.close(StreamEnd.ENDED if whole else StreamEnd.STOPPED)

    def remarks(self) -> list[str]:
        """What the user should know of frames without a result."""
        lines = []
        if self._frames.passed:
            lines.append(f"{self._frames.passed} frames between results have none and are left out")
        if self._frames.goes_on:
            lines.append(f"the video goes on after the last result in {self._results}")
        if self._frames.error is not None:
            lines.append(f"{self._frames.error}")
        return lines


def recording(video: str) -> Source:
    """The source of stored results. Raises UsageError for a camera."""
    if is_live(video):
        raise UsageError(f"{video}: is live; stored results need the recording that they were made of")
    return source_for(video, live=False)


def choose_stream(survey: Survey, source: Source, results: Path, *, wanted: str | None) -> str:
    """Id of the stream that was made of ``source``. Raises UsageError if that cannot be told."""
    streams = survey.streams
    if wanted is not None:
        if wanted not in streams:
            raise UsageError(
                f"{results}: holds no stream {wanted!r}{hint(wanted, streams)}; "
                f"there {_are(len(streams))} {', '.join(streams)}"
            )
        return wanted
    if len(streams) == 1:
        return next(iter(streams))
    same = [name for name, one in streams.items() if is_of(one, source)]
    if len(same) != 1:
        told = "several are" if same else "none is"
        raise UsageError(
            f"{results}: of the streams {', '.join(streams)} {told} of {source.place}; choose with --stream"
        )
    return same[0]


def is_of(stream: StreamSurvey, source: Source) -> bool:
    """Whether the results of a stream say that they were made of ``source``."""
    return bool(stream.first.source) and place_key(stream.first.source) == place_key(source.place)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def check_epochs(stream: StreamSurvey, results: Path) -> None:
    """Make sure that they are of one connection: a recording has no other. Raises UsageError."""
    if stream.first.epoch != stream.last.epoch:
        raise UsageError(
            f"{results}: the results of stream {stream.first.stream} are of a camera that was connected "
            f"several times; only those of a recording have a video that they fit"
        )


def _check_blur(overlay: OverlayOptions, survey: Survey, results: Path) -> None:
    """Make sure that nothing stays visible because of a name that is spelled wrongly. Raises UsageError."""
    bundled = bundled_weights()
    known = survey.labels.union(
        *(read_spec(bundled[model]).classes for model in survey.models if model in bundled)
    )
    for name in overlay.blur:
        if name not in known:
            there = ", ".join(sorted(known)) or "none"
            text = f"overlay.blur: {name!r}{hint(name, known)} is no class in {results}; there are {there}"
            if survey.models <= bundled.keys():
                raise UsageError(text)
            logger.warning("%s", text)
