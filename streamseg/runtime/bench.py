"""How fast a model is on this machine: picture by picture, in batches, and in the whole program."""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

import av
import numpy as np
from numpy.typing import NDArray

from streamseg.config import ModelConfig, RunConfig, StreamConfig
from streamseg.errors import UsageError
from streamseg.runtime.build import build_pipeline, load_model
from streamseg.types import Instances, Model, Ticket

_PICTURES = 32
"""So many of a recording's first pictures are kept for the batches."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What was measured of one way to work."""

    frames: int
    seconds: float
    instances: int
    """All that were found."""
    stages: dict[str, float]
    """Seconds of work by stage. In the whole program stages overlap: the sum may exceed ``seconds``."""

    @property
    def rate(self) -> float:
        """Frames per second."""
        return self.frames / self.seconds

    def milliseconds(self, stage: str) -> float:
        """Of one frame, on average."""
        return 1000 * self.stages.get(stage, 0.0) / self.frames


class StageTimes:
    """A meter that adds up how long stages take."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = Lock()

    def batch(self, size: int) -> None:
        """Batches are not counted."""

    def stage(self, name: str, seconds: float) -> None:
        """Add to the stage's time."""
        with self._lock:
            self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def take(self) -> dict[str, float]:
        """The sums since the last call, in seconds."""
        with self._lock:
            taken, self._seconds = self._seconds, {}
        return taken


def read_pictures(path: str) -> list[NDArray[np.uint8]]:
    """The first pictures of a recording, (H, W, 3) uint8 RGB each. Raises UsageError."""
    try:
        with av.open(path) as container:
            frames = itertools.islice(container.decode(video=0), _PICTURES)
            pictures = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in frames]
    except (OSError, IndexError, av.FFmpegError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    if not pictures:
        raise UsageError(f"{path}: no pictures in it")
    return pictures


def measure_batches(
    model: ModelConfig, pictures: Sequence[NDArray[np.uint8]], *, sizes: Sequence[int], seconds: float
) -> Iterator[tuple[int, Speed]]:
    """The model alone with batches of each size: at least ``seconds`` of them, one after the other."""
    times = StageTimes()
    segmenter = load_model(model, meter=times, max_batch=max(sizes))
    for size in sizes:
        endless = itertools.cycle(pictures)
        _segment(segmenter, list(itertools.islice(endless, size)))  # warm-up
        times.take()
        frames = instances = 0
        start = time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds or not frames:
            found = _segment(segmenter, list(itertools.islice(endless, size)))
            frames += size
            instances += sum(len(picture) for picture in found)
        yield size, Speed(frames, spent, instances, times.take())


def _segment(model: Model[Ticket], pictures: Sequence[NDArray[np.uint8]]) -> list[Instances]:
    """One batch, from its submission to its last picture."""
    ticket = model.submit(pictures)
    model.wait(ticket)
    return [model.finish(ticket, k) for k in range(len(pictures))]


def measure_program(model: ModelConfig, path: str) -> Speed:
    """The whole program over a recording, to its end, without outputs. Raises UsageError or RunError."""
    times = StageTimes()
    pipeline = build_pipeline(RunConfig(streams=(StreamConfig(url=path),), model=model), meter=times)
    with pipeline:
        pipeline.join()
    pipeline.raise_first_error()
    stats = pipeline.stats
    for error in stats.errors:
        raise error
    return Speed(stats.frames, stats.seconds, stats.labels.total(), times.take())
