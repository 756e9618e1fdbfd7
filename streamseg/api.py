"""Running the program from Python, and what the command line is built on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from streamseg.config import NdjsonConfig, OutputConfig, RedisConfig, RunConfig, VideoConfig, parse_config
from streamseg.errors import UsageError
from streamseg.inference import Segmenter
from streamseg.masks.paint import OverlayOptions
from streamseg.outputs import MemoryOutput, NdjsonOutput, RedisOutput, VideoOutput
from streamseg.pipeline import Pipeline
from streamseg.sources import Source, resolve_sources, source_for
from streamseg.types import FrameResult, Output, StreamInfo


def run(*sources: str, **model: Any) -> Iterator[FrameResult]:
    """Segment files, folders, globs, URLs or devices; yields one result per frame, in order.

    ``model`` are keys of the configuration's section ``model`` (``weights``, ``device``,
    ``precision``, ``score``, ``classes``, ``max_instances``). Results of several sources come
    interleaved. Leaving the loop stops the run. Raises UsageError before the first frame, and the
    first error of a source after the last result.
    """
    config = parse_config({"streams": [{"url": s} for s in sources], "model": model}, where="run()")
    memory = MemoryOutput()
    pipeline = build_pipeline(config, extra_outputs=[memory])
    worker = threading.Thread(target=_run_to_end, args=(pipeline, memory), name="streamseg.run")
    worker.start()
    try:
        while (result := memory.get()) is not None:
            yield result
    finally:
        pipeline.stop()
        memory.abandon()
        worker.join()
    for error in pipeline.summary.errors:
        raise error
    pipeline.raise_first_error()


def _run_to_end(pipeline: Pipeline, memory: MemoryOutput) -> None:
    try:
        with pipeline:
            pipeline.join()
    finally:
        memory.shutdown()


def build_pipeline(
    config: RunConfig,
    *,
    extra_outputs: Sequence[Output] = (),
    observe: Callable[[StreamInfo | FrameResult], None] = lambda _: None,
) -> Pipeline:
    """Open nothing yet but the weights. Raises UsageError for whatever in ``config`` cannot work."""
    sources = build_sources(config)
    overlay = OverlayOptions(**config.overlay.model_dump())
    outputs = [_output(o, several=len(sources) > 1, overlay=overlay) for o in config.outputs]
    for output in outputs:
        output.check([source.id for source in sources])
    segmenter = Segmenter.load(
        config.model.weights,
        device=config.model.device,
        precision=config.model.precision,
        score=config.model.score,
        classes=config.model.classes,
        max_instances=config.model.max_instances,
    )
    check_blur(config, segmenter.spec.classes)
    segmenter.warm_up()
    return Pipeline(
        sources,
        segmenter,
        [*outputs, *extra_outputs],
        max_batch=config.batching.max_batch,
        max_wait=config.batching.max_wait_ms / 1000,
        track=config.tracking.enabled,
        observe=observe,
    )


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


def _output(config: OutputConfig, *, several: bool, overlay: OverlayOptions) -> Output:
    match config:
        case VideoConfig():
            return VideoOutput(config.path, several=several, overlay=overlay)
        case NdjsonConfig():
            return NdjsonOutput(config.path, several=several)
        case RedisConfig():
            return RedisOutput(config.url, overlays=config.overlays, maxlen=config.maxlen, overlay=overlay)
