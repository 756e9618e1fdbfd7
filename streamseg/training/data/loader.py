"""Batches for one process of a run, from worker processes that share the images in memory."""

import signal
from collections.abc import Iterator

import cv2
import torch
from torch.utils.data import DataLoader

from streamseg.errors import UsageError
from streamseg.training.config import TrainConfig
from streamseg.training.data.batch import Collate, PackedBatch
from streamseg.training.data.dataset import TrainingStream

_PREFETCH = 4
"""Batches that each worker makes ahead: copy-paste and crowded images take several times the mean."""


def make_loader(
    stream: TrainingStream, config: TrainConfig, *, first: int, steps: int, rank: int, pin: bool
) -> DataLoader[PackedBatch]:
    """The parts of steps ``first`` .. ``steps`` - 1 that process ``rank`` takes, in order.

    ``schedule.accumulate`` of them belong to one step.
    """
    return DataLoader(
        stream,  # type: ignore[arg-type]  # its batches are made by collate_fn
        batch_sampler=_SampleNumbers(config, first=first, steps=steps, rank=rank),
        collate_fn=Collate(config),
        num_workers=config.workers,
        prefetch_factor=_PREFETCH if config.workers else None,
        worker_init_fn=_start_worker if config.workers else None,
        multiprocessing_context="fork" if config.workers else None,  # shares the images kept in memory
        pin_memory=pin,
    )


def read_batches(loader: DataLoader[PackedBatch]) -> Iterator[PackedBatch]:
    """The batches. Raises UsageError for an image that cannot be read, in a worker as in this process."""
    try:
        yield from loader
    except UsageError as error:
        # torch puts the traceback of the worker before the message.
        raise UsageError(str(error).rpartition("UsageError: ")[2]) from error


class _SampleNumbers:
    """The sample numbers of each part: step s begins at s * batch; part by part, rank by rank."""

    def __init__(self, config: TrainConfig, *, first: int, steps: int, rank: int) -> None:
        self._config, self._first, self._steps, self._rank = config, first, steps, rank

    def __len__(self) -> int:
        return max(0, self._steps - self._first) * self._config.schedule.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        schedule, size = self._config.schedule, self._config.part
        for step in range(self._first, self._steps):
            for part in range(schedule.accumulate):
                start = step * schedule.batch + (part * self._config.devices + self._rank) * size
                yield list(range(start, start + size))


def _start_worker(_: int) -> None:
    # OpenCV's threads do not survive a fork, and the workers are the parallelism.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # Ctrl-C reaches every process of the terminal: the trainer finishes its step and ends the workers (with
    # SIGTERM, if it comes to that).
    signal.signal(signal.SIGINT, signal.SIG_IGN)
