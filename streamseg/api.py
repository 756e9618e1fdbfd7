"""Running the program from Python, and what the command line is built on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from streamseg.config import parse_config
from streamseg.outputs import MemoryOutput
from streamseg.runtime.build import build_pipeline
from streamseg.runtime.pipeline import Pipeline
from streamseg.types import FrameResult


def run(*sources: str, **model: Any) -> Iterator[FrameResult]:
    """Segment files, folders, globs, URLs or devices; yields one result per frame, in order.

    ``model`` are keys of the configuration's section ``model`` (``weights``, ``device``,
    ``precision``, ``score``, ``classes``, ``max_instances``). Results of several sources come
    interleaved; cameras have no end and are waited for. Leaving the loop stops the run. Raises
    UsageError before the first frame, and the first error of a source after the last result.
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
    for error in pipeline.stats.errors:
        raise error
    pipeline.raise_first_error()


def _run_to_end(pipeline: Pipeline, memory: MemoryOutput) -> None:
    try:
        with pipeline:
            pipeline.join()
    finally:
        memory.shutdown()
