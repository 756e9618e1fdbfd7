"""From a validated configuration to a pipeline: sources, model, outputs, and what an earlier run left."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from streamseg.config import (
    EventsConfig,
    ModelConfig,
    MqttConfig,
    NdjsonConfig,
    OutputConfig,
    OverlayOptions,
    PushConfig,
    RedisConfig,
    RunConfig,
    StreamConfig,
    VideoConfig,
    WebhookConfig,
    hint,
)
from streamseg.errors import SourceError, UsageError
from streamseg.outputs import FunctionOutput, NdjsonOutput, PushOutput, VideoOutput
from streamseg.outputs.events import EventsOutput
from streamseg.outputs.files import files_beside
from streamseg.outputs.function import SinkFunction
from streamseg.outputs.mqtt import MqttOutput
from streamseg.outputs.webhook import WebhookOutput
from streamseg.redis.publish import RedisOutput
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


def check_files_differ(sources: Sequence[Source], outputs: Sequence[Output]) -> None:
    """Make sure that no output file, nor its partial one, is another's, or a source. Raises UsageError."""
    read = {name for source in sources for name in _names_of(source.url)}
    written: set[str | tuple[int, int]] = set()
    for output in outputs:
        if not isinstance(output, NdjsonOutput | VideoOutput | EventsOutput):
            continue
        for path in filter(None, [output.path(source.id) for source in sources]):
            files = files_beside(path)
            names = [_names_of(file) for file in files]
            for file, of_file in zip(files, names, strict=True):
                if of_file & read:
                    as_ = "" if file == path else f" while {path} is written"
                    raise UsageError(f"{file} is a source itself{as_}: outputs need other names")
                if of_file & written:
                    raise UsageError(f"{file} is the file of two outputs: they need different names")
            written.update(*names)


def _names_of(path: str | Path) -> set[str | tuple[int, int]]:
    """What tells a file from all others: its real path; and if it exists, what all hard links to it share."""
    names: set[str | tuple[int, int]] = {os.path.realpath(path)}
    with suppress(OSError, ValueError):
        status = os.stat(path)
        names.add((status.st_dev, status.st_ino))
    return names


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


def check_blur(config: RunConfig, classes: Sequence[str]) -> None:
    """Make sure that the model finds all that is to be blurred; ``classes``: its own. Raises UsageError."""
    kept = [name for name in classes if config.model.classes is None or name in config.model.classes]
    for name in config.overlay.blur:
        if name not in kept:
            raise UsageError(
                f"overlay.blur: {name!r}{hint(name, kept)} is not looked for; allowed: {', '.join(kept)}"
            )


def check_rules(config: RunConfig, classes: Sequence[str]) -> None:
    """Make sure that each stream's rules can be met; ``classes``: the model's. Raises UsageError."""
    kept = [name for name in classes if config.model.classes is None or name in config.model.classes]
    for number, stream in enumerate(config.streams):
        where = f"streams.{number}"
        wanted = {f"{where}.classes": stream.classes or ()}
        wanted |= {f"{where}.zones.{name}.classes": zone.classes or () for name, zone in stream.zones.items()}
        wanted |= {f"{where}.lines.{name}.classes": line.classes or () for name, line in stream.lines.items()}
        for key, names in wanted.items():
            for name in names:
                if name not in kept:
                    raise UsageError(
                        f"{key}: {name!r}{hint(name, kept)} is not looked for; allowed: {', '.join(kept)}"
                    )
        if stream.score is not None and stream.score < config.model.score:
            raise UsageError(
                f"{where}.score {stream.score}: below model.score {config.model.score}, under which nothing "
                "is found"
            )
        if (stream.zones or stream.lines) and not config.tracking.enabled:
            raise UsageError(f"{where}: zones and lines need tracking.enabled: true")


def build_outputs(
    config: RunConfig, *, several: bool, rules: Mapping[str, StreamRules] | None = None
) -> list[Output]:
    """The outputs of a configuration, see :func:`build_output`."""
    return [
        build_output(output, several=several, overlay=config.overlay, rules=rules)
        for output in config.outputs
    ]


def build_output(
    config: OutputConfig,
    *,
    several: bool,
    overlay: OverlayOptions | None = None,
    rules: Mapping[str, StreamRules] | None = None,
) -> Output:
    """The output that a section of the configuration describes.

    ``several``: for more than one stream; ``rules``: those of streams by id, which may change meanwhile.
    """
    match config:
        case VideoConfig():
            return VideoOutput(
                config.path,
                several=several,
                overlay=overlay,
                rules=rules,
                part_seconds=60 * config.part_minutes,
                encode=config.encode,
            )
        case PushConfig():
            return PushOutput(config.url, overlay=overlay, rules=rules, encode=config.encode)
        case NdjsonConfig():
            return NdjsonOutput(config.path, several=several)
        case EventsConfig() | MqttConfig() | WebhookConfig():
            return _build_events(config, several=several)
        case RedisConfig():
            return RedisOutput(
                config.url,
                overlays=config.overlays,
                maxlen=config.maxlen,
                password_file=config.password_file,
                overlay=overlay,
                rules=rules,
            )


def _build_events(config: EventsConfig | MqttConfig | WebhookConfig, *, several: bool) -> Output:
    match config:
        case EventsConfig():
            return EventsOutput(config.path, several=several)
        case MqttConfig():
            return MqttOutput(config.url, topic=config.topic, qos=config.qos)
        case WebhookConfig():
            return WebhookOutput(config.url, cooldown=config.cooldown)
