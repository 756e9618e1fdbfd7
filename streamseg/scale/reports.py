"""What an engine tells its owner of its run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from streamseg.outputs import NdjsonOutput
from streamseg.results.reading import read_results
from streamseg.runtime.pipeline import Pipeline
from streamseg.runtime.stats import StreamStats
from streamseg.scale.control import (
    FromEngine,
    Numbers,
    Opened,
    OutputFailed,
    OutputNumbers,
    StreamNumbers,
    Written,
)
from streamseg.types import FramePolicy, Output, StreamInfo, StreamState


class Reporter:
    """Finds out what is new in a pipeline since it was asked last. One thread at a time."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._told: dict[str, StreamNumbers] = {}
        self._written: set[str] = set()
        self._errors = 0

    def begin(self, stream: str) -> None:
        """A stream was added, perhaps one that was here before."""
        self._written.discard(stream)

    def news(self) -> Iterator[FromEngine]:
        """Numbers; before them the errors of outputs, behind them the streams whose files are finished.

        Errors come first, and what is written is looked at before: nobody takes a stream for done whose
        output has failed.
        """
        streams = list(self._pipeline.stats.streams)
        written = [s for s in streams if s not in self._written and self._pipeline.is_written(s)]
        yield from self._new_errors()
        yield self._numbers(streams)
        for stream in written:
            self._written.add(stream)
            yield Written(stream, self._told[stream])

    def last_news(self) -> Iterator[FromEngine]:
        """What is left to tell when the pipeline has been left."""
        streams = list(self._pipeline.stats.streams)
        yield from self._new_errors()
        yield self._numbers(streams)
        for stream in streams:
            if stream not in self._written:
                yield Written(stream, self._told[stream])

    def _new_errors(self) -> Iterator[OutputFailed]:
        errors = self._pipeline.stats.output_errors[self._errors :]
        self._errors += len(errors)
        yield from (OutputFailed(str(error)) for error in errors)

    def _numbers(self, streams: list[str]) -> Numbers:
        now = {
            stream: numbers_of(self._pipeline.stats.streams[stream], taken=self._pipeline.is_taken(stream))
            for stream in streams
        }
        changed = {stream: numbers for stream, numbers in now.items() if numbers != self._told.get(stream)}
        self._told |= changed
        outputs = [
            OutputNumbers(output.name, output.trouble, dict(output.dropped), output.errors)
            for output in self._pipeline.output_health()
        ]
        return Numbers(
            changed,
            outputs,
            queues=self._pipeline.queue_lengths(),
            outputs_gone=self._pipeline.outputs_gone,
        )


def numbers_of(stats: StreamStats, *, taken: bool) -> StreamNumbers:
    """A stream's numbers as they travel."""
    return StreamNumbers(
        state=stats.state,
        reconnects=stats.reconnects,
        received=stats.received,
        results=stats.results,
        dropped=dict(stats.dropped),
        labels=dict(stats.labels),
        lost=stats.lost,
        concealed=stats.concealed,
        packets=stats.packets,
        kept=stats.kept,
        error=None if stats.error is None else str(stats.error),
        ended=stats.ended,
        stopped=stats.stopped,
        over=stats.over,
        taken=taken,
    )


def numbers_of_files(stream: str, outputs: Sequence[Output]) -> StreamNumbers | None:
    """Of a recording that is written, counted in its file: one that died may not have told its last ones.

    None if no file tells them.
    """
    paths = [output.path(stream) for output in outputs if isinstance(output, NdjsonOutput)]
    for path in filter(None, paths):
        labels: Counter[str] = Counter()
        results = 0
        for result in read_results(path):
            results += 1
            labels.update(instance.label for instance in result.instances)
        return StreamNumbers(
            state=StreamState.ENDED,
            received=results,
            results=results,
            labels=dict(labels),
            kept=results,
            ended=True,
            over=True,
        )
    return None


def opened(info: StreamInfo) -> Opened:
    """A stream's opening as it travels."""
    return Opened(
        stream=info.stream,
        epoch=info.epoch,
        live=info.policy is FramePolicy.NEWEST_FRAME,
        width=info.width,
        height=info.height,
        fps=info.fps,
        frame_count=info.frame_count,
        source=info.source,
    )
