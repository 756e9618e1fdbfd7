"""From a validated configuration to a pipeline: sources, model, outputs, and what an earlier run left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from streamseg.config import ModelConfig, RunConfig, StreamConfig
from streamseg.errors import SourceError, UsageError
from streamseg.outputs import FunctionOutput
from streamseg.outputs.function import SinkFunction
from streamseg.runtime.build_outputs import build_outputs
from streamseg.runtime.checks import check_blur, check_files_differ, check_rules
from streamseg.runtime.resume import Resumption, check_resumable, former_ids, take_over
from streamseg.sources import Source, SourceOptions, raise_error, resolve_sources, source_for
from streamseg.types import FrameResult, Meter, Output, StreamInfo
from streamseg.zones import StreamRules

if TYPE_CHECKING:
    from streamseg.inference import OomGuard
    from streamseg.inference.tickets import BatchTicket
    from streamseg.runtime.pipeline import Pipeline

Sink = Output | SinkFunction
"""Where results go: an output, or a function that is called with each of them."""


def build_pipeline(
    config: RunConfig,
    *,
    outputs: Sequence[Sink] = (),
    observe: Callable[[StreamInfo | FrameResult], None] = lambda _: None,
    resume: bool = False,
    meter: Meter | None = None,
) -> Pipeline:
    """Open nothing yet but the weights.

    Args:
        config: The run.
        outputs: Sinks beside those of the configuration: outputs, or functions that are called with the
            result, the frame and the instances.
        observe: Hears of every opening and result, on the run's threads.
        resume: Go on where an interrupted run over the same files stopped.
        meter: Is told of all work.

    Raises:
        UsageError: Something in ``config`` cannot work.
        RunError: The device has no room for the model.
    """
    # The parent of several engines needs neither: its processes would start twice as slowly.
    from streamseg.runtime.pipeline import Pipeline  # noqa: PLC0415

    plan = plan_run(config, resume=resume)
    others = [sink if isinstance(sink, Output) else FunctionOutput(sink) for sink in outputs]
    for output in (*plan.outputs, *others):
        output.check([source.id for source in plan.sources])
    model = load_model(config.model, meter=meter, max_batch=config.batching.max_batch)
    check_blur(config, model.classes)
    check_rules(config, model.classes)
    rest = Resumption(plan.sources, {}, 0)
    if resume:
        rest = take_over(plan.sources, plan.outputs, model=model.name)
    pipeline = Pipeline(
        rest.sources,
        model,
        [*plan.outputs, *others],
        **pipeline_options(config),
        rules=plan.rules,
        observe=observe,
        known=rest.instances(),
        meter=meter,
    )
    pipeline.stats.refused = plan.refused
    pipeline.stats.finished_before = rest.finished
    for stream, kept in rest.kept.items():
        pipeline.stats.streams[stream].kept = kept.lines
    return pipeline


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run reads and writes; nothing is opened yet."""

    sources: list[Source]
    rules: dict[str, StreamRules]
    """Of streams, by id."""
    outputs: list[Output]
    """Those of the configuration."""
    refused: list[SourceError]
    """Files that cannot be read by their name."""


def plan_run(config: RunConfig, *, resume: bool = False) -> RunPlan:
    """Find the sources, and what is to be written of them. Raises UsageError."""
    refused: list[SourceError] = []
    streams = build_streams(config, refuse=refused.append)
    rules: dict[str, StreamRules] = {}
    outputs = build_outputs(config, several=len(streams) > 1, rules=rules)
    if resume:
        streams = build_streams(config, known=former_ids(outputs), refuse=lambda _: None)
        check_resumable([source for source, _ in streams], outputs)
    sources = [source for source, _ in streams]
    rules.update((source.id, of_stream) for source, of_stream in streams)
    check_files_differ(sources, outputs)
    return RunPlan(sources, rules, outputs, refused)


class PipelineOptions(TypedDict):
    """Keywords of :class:`Pipeline` that the configuration sets."""

    max_batch: int
    max_wait: float
    max_age: float
    track: bool


def pipeline_options(config: RunConfig) -> PipelineOptions:
    """What a configuration says of batches and tracks."""
    return {
        "max_batch": config.batching.max_batch,
        "max_wait": config.batching.max_wait_ms / 1000,
        "max_age": config.batching.max_age_ms / 1000,
        "track": config.tracking.enabled,
    }


def load_model(
    config: ModelConfig, *, meter: Meter | None = None, max_batch: int = 1
) -> OomGuard[BatchTicket]:
    """The model of a run, warm for batches up to ``max_batch``.

    Raises UsageError, and RunError if the device has no room for it.
    """
    from streamseg.inference import OomGuard  # noqa: PLC0415  as above

    return OomGuard.load(config, meter=meter, max_batch=max_batch)


def build_sources(config: RunConfig) -> list[Source]:
    """The sources of all streams, with ids that differ. Raises UsageError."""
    return [source for source, _ in build_streams(config)]


def build_streams(
    config: RunConfig,
    *,
    known: Mapping[str, Sequence[str]] | None = None,
    refuse: Callable[[SourceError], None] = raise_error,
) -> list[tuple[Source, StreamRules]]:
    """The sources of all streams, with ids that differ, and the rules of each.

    Args:
        config: The run.
        known: Ids that sources had before and keep, by :func:`place_key`, if the configuration gives none.
        refuse: Hears of each file that cannot be read by its name, if there are others.

    Raises:
        UsageError: There is no source, or one that cannot be read for sure.
    """
    if not config.streams:
        raise UsageError("no source: name a file, folder, glob, URL or /dev/videoN, or a config with streams")
    streams: list[tuple[Source, StreamRules]] = []
    refused: list[SourceError] = []
    taken = {stream.id for stream in config.streams if stream.id}
    if len(taken) < sum(1 for stream in config.streams if stream.id):
        raise UsageError("streams: two streams have the same id")
    for stream in config.streams:
        found = _sources_of(stream, taken, known or {}, refused.append)
        taken.update(source.id for source in found)
        streams.extend((source, StreamRules.of(stream)) for source in found)
    if not streams:
        raise UsageError(str(refused[0]))
    for error in refused:
        refuse(error)
    return streams


def _sources_of(
    stream: StreamConfig,
    taken: Collection[str],
    known: Mapping[str, Sequence[str]],
    refuse: Callable[[SourceError], None],
) -> list[Source]:
    """One source; or one for each file of a folder or glob, with ids that are not taken."""
    options: SourceOptions = {
        "transport": stream.transport,
        "decode": stream.decode,
        "start": stream.start,
        "end": stream.end,
        "stride": stream.stride,
        "deinterlace": stream.deinterlace,
        "reconnect_attempts": stream.reconnect_attempts,
        "damaged": stream.damaged,
        "max_fps": stream.max_fps,
        "stalled_after": stream.stalled_after,
        "live": stream.live,
        "first_epoch": stream.first_epoch or 0,
        "claim": stream.first_epoch,
        "user": stream.user,
        "password": stream.password,
    }
    if stream.id:
        return [source_for(stream.url, stream_id=stream.id, **options)]
    return resolve_sources(
        [stream.url],
        taken=taken,
        known=known,
        recursive=stream.recursive,
        refuse=refuse,
        **options,
    )
