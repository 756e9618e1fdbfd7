"""Going on with an interrupted run over recorded files.

The NDJSON files tell how far it came. A file that is finished is passed over. Any other is read from
its beginning: frames whose result is kept do not go through the network but go to the tracker, which
so has the state it had, and to the outputs that need them once more (the overlay video is painted
anew); the network takes over at the first frame without a result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamseg.errors import UsageError
from streamseg.outputs import NdjsonOutput, VideoOutput
from streamseg.outputs.events import EventsOutput
from streamseg.outputs.kept import Kept, KeptInstances
from streamseg.redis.publish import RedisOutput
from streamseg.sources import Source, place_key
from streamseg.types import Output

_HEAD_START = 10.0
"""Seconds by which frames of one file may have been decoded before the first of another got its result."""


@dataclass(frozen=True, slots=True)
class Resumption:
    """What is left to do."""

    sources: list[Source]
    kept: dict[str, Kept]
    """Results there are already, by stream."""
    finished: int
    """How many sources need not be looked at."""

    def instances(self) -> KeptInstances:
        """What was found in the frames that have their result."""
        return KeptInstances({stream: kept for stream, kept in self.kept.items() if kept.lines})


def former_ids(outputs: Sequence[Output]) -> dict[str, list[str]]:
    """The ids that sources had in the interrupted run, by :func:`place_key`; one source may have had several.

    Files without a key ``source`` in their results are left out: they are gone on with by their id alone.
    """
    by_stream: dict[str, str] = {}
    for output in outputs:
        if isinstance(output, NdjsonOutput):
            by_stream |= output.written()
    ids: dict[str, list[str]] = {}
    for stream in sorted(by_stream, key=lambda one: (len(one), one)):
        ids.setdefault(place_key(by_stream[stream]), []).append(stream)
    return ids


def check_resumable(sources: Sequence[Source], outputs: Sequence[Output]) -> None:
    """Make sure that there is something to go by. Raises UsageError."""
    if not any(isinstance(output, NdjsonOutput) and output.to_files for output in outputs):
        raise UsageError("--resume goes by the results in NDJSON files: it needs --results FILE or FOLDER")
    for source in sources:
        if not source.recorded:
            raise UsageError(f"--resume is for recorded files: stream {source.id} is live, or may be")
        for output in outputs:
            if isinstance(output, NdjsonOutput):
                _check_source(source, output)


def _check_source(source: Source, output: NdjsonOutput) -> None:
    """Make sure that a file that goes by the stream's id, or by no id, is of the same source."""
    first = output.first_result(source.id)
    if first is not None and first.source and place_key(first.source) != place_key(source.place):
        raise UsageError(
            f"--resume: {output.path(source.id)} is of the source {first.source}, not of {source.place}; "
            "give other names, or begin anew without --resume"
        )


def take_over(sources: Sequence[Source], outputs: Sequence[Output], *, model: str) -> Resumption:
    """Find out what an interrupted run left, and make the outputs go on with it.

    Args:
        sources: All sources of the run.
        outputs: Its outputs, checked by :func:`check_resumable`.
        model: Name of the weights that the run goes on with.

    Raises:
        UsageError: Results were made with other weights, or cannot be read.
    """
    left = unfinished(sources, outputs)
    began = run_began(sources, outputs)
    kept = {source.id: _longest(source.id, outputs) for source in left}
    for stream, one in kept.items():
        _check_model(one, model)
        for output in outputs:
            if isinstance(output, RedisOutput):
                output.take_over(stream, began=began)
    return Resumption(left, kept, len(sources) - len(left))


def unfinished(sources: Sequence[Source], outputs: Sequence[Output], *, since: float = 0.0) -> list[Source]:
    """Those of which not every file is finished; files older than ``since``, UNIX seconds, do not count."""
    files = [output for output in outputs if isinstance(output, NdjsonOutput | VideoOutput)]
    return [
        source
        for source in sources
        if not files or not all(output.has_finished(source.id, since=since) for output in files)
    ]


def take_over_stream(source: Source, outputs: Sequence[Output], *, model: str, since: float) -> Kept | None:
    """The same for one recording, of a run that began at ``since``; None if nothing is left to do.

    Raises UsageError as :func:`take_over`.
    """
    if not unfinished([source], outputs, since=since):
        return None
    results = [output for output in outputs if isinstance(output, NdjsonOutput)]
    found = [output.take_over(source.id, since=since) for output in results]
    kept = max((one for one in found if one is not None), key=lambda one: one.lines, default=Kept(Path()))
    _check_model(kept, model)
    for output in outputs:
        if isinstance(output, RedisOutput):
            output.take_over(source.id, began=since)
    return kept


def go_on(stream: str, outputs: Sequence[Output], *, since: float) -> None:
    """Have a camera written behind what is there of the run that began at ``since``. Raises UsageError."""
    for output in outputs:
        if isinstance(output, NdjsonOutput | EventsOutput | VideoOutput):
            output.go_on(stream, since=since)


def _check_model(kept: Kept, model: str) -> None:
    if kept.lines and kept.model != model:
        raise UsageError(f"--resume: {kept.path} was made with the weights {kept.model}, not {model}")


def run_began(sources: Sequence[Source], outputs: Sequence[Output]) -> float:
    """UNIX seconds when the first frame of the interrupted run was decoded, or a little before.

    Infinite if it left no result.
    """
    results = [output for output in outputs if isinstance(output, NdjsonOutput)]
    firsts = [output.first_result(source.id) for output in results for source in sources]
    return min((first.time for first in firsts if first is not None), default=math.inf) - _HEAD_START


def _longest(stream: str, outputs: Sequence[Output]) -> Kept:
    """Have the NDJSON outputs take over a stream; returns the longest run of results they have."""
    found = [output.take_over(stream) for output in outputs if isinstance(output, NdjsonOutput)]
    return max((one for one in found if one is not None), key=lambda one: one.lines)
