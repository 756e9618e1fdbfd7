"""From a validated configuration to a pipeline: sources, model, outputs, and what an earlier run left."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from streamseg.config import NdjsonConfig, OutputConfig, OverlayOptions, RedisConfig, RunConfig, VideoConfig
from streamseg.errors import UsageError
from streamseg.inference import OomGuard
from streamseg.outputs import NdjsonOutput, VideoOutput
from streamseg.redis.publish import RedisOutput
from streamseg.runtime.pipeline import Pipeline
from streamseg.runtime.resume import Resumption, check_resumable, take_over
from streamseg.sources import Source, resolve_sources, source_for
from streamseg.types import FrameResult, Meter, Output, StreamInfo


def build_pipeline(
    config: RunConfig,
    *,
    extra_outputs: Sequence[Output] = (),
    observe: Callable[[StreamInfo | FrameResult], None] = lambda _: None,
    resume: bool = False,
    meter: Meter | None = None,
) -> Pipeline:
    """Open nothing yet but the weights.

    With ``resume`` go on where an interrupted run over the same files stopped. Raises UsageError for
    whatever in ``config`` cannot work, and RunError if the device has no room for the model.
    """
    sources = build_sources(config)
    outputs = [build_output(o, several=len(sources) > 1, overlay=config.overlay) for o in config.outputs]
    if resume:
        check_resumable(sources, outputs)
    check_files_differ(sources, outputs)
    for output in outputs:
        output.check([source.id for source in sources])
    model = OomGuard.load(
        config.model.weights, **config.model.model_dump(exclude={"weights"}), meter=meter
    )
    check_blur(config, model.classes)
    rest = take_over(sources, outputs, model=model.name) if resume else Resumption(sources, {}, 0)
    pipeline = Pipeline(
        rest.sources,
        model,
        [*outputs, *extra_outputs],
        max_batch=config.batching.max_batch,
        max_wait=config.batching.max_wait_ms / 1000,
        max_age=config.batching.max_age_ms / 1000,
        track=config.tracking.enabled,
        observe=observe,
        known=rest.instances(),
        meter=meter,
    )
    pipeline.summary.finished_before = rest.finished
    for stream, kept in rest.kept.items():
        pipeline.summary.streams[stream].kept = kept.lines
    return pipeline


def check_files_differ(sources: Sequence[Source], outputs: Sequence[Output]) -> None:
    """Make sure that no output file is one of another output, or a source. Raises UsageError."""
    read = {os.path.realpath(source.url) for source in sources}
    written: set[str] = set()
    for output in outputs:
        if not isinstance(output, NdjsonOutput | VideoOutput):
            continue
        for path in filter(None, [output.path(source.id) for source in sources]):
            real = os.path.realpath(path)
            if real in read:
                raise UsageError(f"{path} is a source itself: outputs need other names")
            if real in written:
                raise UsageError(f"{path} is the file of two outputs: they need different names")
            written.add(real)


def build_sources(config: RunConfig) -> list[Source]:
    """The sources of all streams, with ids that differ. Raises UsageError."""
    if not config.streams:
        raise UsageError("no source: name a file, folder, glob, URL or /dev/videoN, or a config with streams")
    sources: list[Source] = []
    taken = {stream.id for stream in config.streams if stream.id}
    if len(taken) < sum(1 for stream in config.streams if stream.id):
        raise UsageError("streams: two streams have the same id")
    for stream in config.streams:
        options: dict[str, Any] = {
            "transport": stream.transport,
            "start": stream.start,
            "end": stream.end,
            "stride": stream.stride,
            "stalled_after": stream.stalled_after,
            "reconnect_attempts": stream.reconnect_attempts,
        }
        if stream.id:
            sources.append(source_for(stream.url, stream_id=stream.id, **options))
        else:
            found = resolve_sources([stream.url], taken=taken, **options)
            taken.update(source.id for source in found)
            sources.extend(found)
    return sources


def check_blur(config: RunConfig, classes: Sequence[str]) -> None:
    """Make sure that the model finds all that is to be blurred; ``classes``: its own. Raises UsageError."""
    kept = [name for name in classes if config.model.classes is None or name in config.model.classes]
    for name in config.overlay.blur:
        if name not in kept:
            raise UsageError(f"overlay.blur: {name!r} is not looked for; allowed: {', '.join(kept)}")


def build_output(config: OutputConfig, *, several: bool, overlay: OverlayOptions | None = None) -> Output:
    """The output that a section of the configuration describes; ``several``: for more than one stream."""
    match config:
        case VideoConfig():
            return VideoOutput(
                config.path, several=several, overlay=overlay, part_seconds=60 * config.part_minutes
            )
        case NdjsonConfig():
            return NdjsonOutput(config.path, several=several)
        case RedisConfig():
            return RedisOutput(config.url, overlays=config.overlays, maxlen=config.maxlen, overlay=overlay)
