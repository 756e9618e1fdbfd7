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


def measure_capacity(model: Model[Ticket], *, max_batch: int, seconds: float = 0.3) -> float:
    """Frames per second of a warm model with batches of ``max_batch`` grey pictures, 640 x 480.

    At least ``seconds`` of them, two batches under way as in a run: good enough to tell devices apart.
    A slow model gets single pictures.
    """
    pictures = [np.full((480, 640, 3), 128, np.uint8)]
    start = time.perf_counter()
    _segment(model, pictures)
    if time.perf_counter() - start < seconds:
        pictures *= max_batch
        _segment(model, pictures)
    frames, start = 0, time.perf_counter()
    under_way = model.submit(pictures)
    while (spent := time.perf_counter() - start) < seconds or not frames:
        following = model.submit(pictures)
        _finish(model, under_way, len(pictures))
        under_way, frames = following, frames + len(pictures)
    _finish(model, under_way, len(pictures))
    return frames / max(spent, 1e-6)


def _finish(model: Model[Ticket], ticket: Ticket, count: int) -> list[Instances]:
    model.wait(ticket)
    return [model.finish(ticket, k) for k in range(count)]


def _segment(model: Model[Ticket], pictures: Sequence[NDArray[np.uint8]]) -> list[Instances]:
    """One batch, from its submission to its last picture."""
    return _finish(model, model.submit(pictures), len(pictures))


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
