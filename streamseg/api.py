"""Running the program from Python."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from streamseg.config import ModelConfig, RunConfig, parse_config
from streamseg.errors import UsageError
from streamseg.outputs import MemoryOutput
from streamseg.runtime.broker import embedded_broker
from streamseg.runtime.build import Sink, build_pipeline
from streamseg.runtime.pipeline import Pipeline
from streamseg.types import FrameResult

__all__ = ["Sink", "run"]

logger = logging.getLogger(__name__)

_MODEL = ModelConfig()


Place = str | os.PathLike[str]
"""A file, folder, glob, URL or ``/dev/videoN``."""


def run(
    *sources: Place | Sequence[Place],
    weights: str = _MODEL.weights,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = _MODEL.precision,
    runtime: Literal["auto", "torch", "onnxruntime", "openvino"] = _MODEL.runtime,
    score: float = _MODEL.score,
    classes: Sequence[str] | None = _MODEL.classes,
    max_instances: int | None = _MODEL.max_instances,
    overlap: Literal["class", "any"] | None = None,
    track: bool = True,
    start: float = 0.0,
    end: float | None = None,
    stride: int = 1,
    recursive: bool = False,
    transport: Literal["tcp", "udp"] = "tcp",
    reconnect_attempts: int | None = None,
    max_fps: float | None = None,
    redis: str | None = None,
    region: Sequence[object] = (),
    ignore: Sequence[object] = (),
    zones: Mapping[str, Mapping[str, object]] | None = None,
    lines: Mapping[str, Mapping[str, object]] | None = None,
    outputs: Sequence[Sink] = (),
) -> Iterator[FrameResult]:
    """Segment recorded files and cameras; yields one result per frame, each stream's in order.

    Results of several sources come interleaved. Cameras have no end and are waited for. Leaving the loop
    stops the run.

    Args:
        sources: Files, folders, globs, URLs or ``/dev/videoN``, as text or paths; lists of them as well.
        weights: Name of bundled weights, or path of a ``.safetensors`` file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: ``auto`` takes half precision wherever it is faster.
        runtime: What computes the network on a CPU: torch, ONNX Runtime or OpenVINO; ``auto`` the fastest.
        score: Instances below this score, in [0, 1], are left out.
        classes: Names of the classes to keep, at least one; all of them if not given.
        max_instances: At most so many per frame, the best ones; None: as the weights say.
        overlap: What is found under a better object and left out: another of its ``class``, or ``any`` other;
            None: as the weights say.
        track: Give objects ids that stay with them.
        start: Recorded files: begin at this second.
        end: Recorded files: end before this second; None is the end of the file.
        stride: Recorded files: take every ``stride``-th frame.
        recursive: Of folders, take what lies in their folders, too.
        transport: How RTSP carries the video.
        reconnect_attempts: Cameras: new attempts in a row that may fail; None for any number.
        max_fps: Cameras: take at most so many frames a second, evenly spaced; None takes all that come.
        redis: URL of a Redis to publish results to; ``embedded`` starts one, whose address is logged.
        region: Polygon, or polygons, of points (x, y) as fractions of the picture or as pixels: keep only
            objects that lie in it by half or more.
        ignore: Polygons: leave out objects that lie in one of them by half or more.
        zones: By name, the keys of a zone of the configuration: ``{"door": {"polygon": [...]}}``. Results
            then have ``counts`` and ``events``, and their instances ``zones``.
        lines: By name, those of a line: ``{"gate": {"points": [(0.1, 0.5), (0.9, 0.5)]}}``.
        outputs: Sinks that get the results too: outputs (:class:`streamseg.types.Output`), or functions
            that are called with the result, the frame and the instances.

    Raises:
        UsageError: Before the first frame: an argument or the weights cannot work.
        RunError: After the last result: the first error of a source or output.
        OSError: The run cannot begin, because this process may open no more files.
    """
    stream = {
        "transport": transport,
        "start": start,
        "end": end,
        "stride": stride,
        "reconnect_attempts": reconnect_attempts,
        "max_fps": max_fps,
        "recursive": recursive,
        "region": region,
        "ignore": ignore,
        "zones": zones or {},
        "lines": lines or {},
    }
    model = {
        "weights": weights,
        "device": device,
        "precision": precision,
        "runtime": runtime,
        "score": score,
        "classes": classes,
        "max_instances": max_instances,
        "overlap": overlap,
    }
    content = {
        "streams": [{"url": source, **stream} for source in _flat(sources)],
        "model": model,
        "tracking": {"enabled": track},
        "outputs": [] if redis is None else [{"type": "redis", "url": redis}],
    }
    with embedded_broker(parse_config(content, where="run()")) as (config, broker):
        if broker is not None:
            logger.warning("results are published to %s", broker)
        yield from _results(config, outputs)


def _results(config: RunConfig, outputs: Sequence[Sink]) -> Iterator[FrameResult]:
    """Those of a whole run, which ends with the loop over them. Raises UsageError and RunError."""
    memory = MemoryOutput()
    pipeline = build_pipeline(config, outputs=[memory, *outputs])
    broke: list[BaseException] = []
    worker = threading.Thread(target=_run_to_end, args=(pipeline, memory, broke), name="streamseg.run")
    worker.start()
    try:
        while (result := memory.get()) is not None:
            yield result
    finally:
        pipeline.stop()
        memory.abandon()
        worker.join()
    for error in (*pipeline.stats.errors, *broke):
        raise error
    pipeline.raise_first_error()


def _flat(sources: Iterable[Place | Sequence[Place]]) -> Iterator[str]:
    """Every place as text. Raises UsageError for what is none."""
    for source in sources:
        if isinstance(source, list | tuple):
            yield from _flat(source)
        elif isinstance(source, str | os.PathLike):
            yield os.fsdecode(source)
        else:
            raise UsageError(f"a source is a text, a path or a list of them, not a {type(source).__name__}")


def _run_to_end(pipeline: Pipeline, memory: MemoryOutput, broke: list[BaseException]) -> None:
    """In a thread of its own; what it breaks down with is added to ``broke``."""
    try:
        with pipeline:
            pipeline.join()
    except BaseException as error:  # noqa: BLE001  the loop over the results raises it
        broke.append(error)
    finally:
        memory.shutdown()
