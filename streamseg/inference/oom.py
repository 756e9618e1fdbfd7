"""Going on when a batch does not fit into the device's memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from streamseg.errors import RunError
from streamseg.inference.segmenter import Segmenter
from streamseg.types import Instances, Model

logger = logging.getLogger(__name__)

_WAIT_FOR_MEMORY = 30.0
"""Seconds for the batches before to leave the device, when there is no room for one more picture."""

Pictures = Sequence[NDArray[np.uint8]]


@dataclass(slots=True)
class _Running:
    """A batch under way: what went to the device together, and what has to wait until that is done."""

    pictures: Pictures
    submitted: Any
    later: Pictures


class BatchHalver:
    """A model that does a batch again in halves when the device's memory does not hold it.

    No batch goes to the device as a larger whole from then on: another program on the device, or
    larger pictures, cost speed and not the service.
    """

    def __init__(self, model: Model) -> None:
        self.name, self.classes = model.name, model.classes
        self._model = model
        self._limit = 1 << 30
        """Pictures that may go to the device together."""
        self._on_device = 0
        self._left = threading.Condition()
        self._one_submits = threading.Lock()

    @classmethod
    def load(cls, weights: str, **options: Any) -> BatchHalver:
        """Load a segmenter and run it once.

        Arguments and errors are those of :meth:`Segmenter.load`; also raises RunError if the device has
        no room for it.
        """
        try:
            segmenter = Segmenter.load(weights, **options)
            segmenter.warm_up()
        except torch.OutOfMemoryError as error:
            raise RunError(f"the device's memory does not hold the model: {error}") from error
        return cls(segmenter)

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Size at which a picture enters the network."""
        return self._model.canvas(height, width)

    def submit(self, images: Pictures) -> Any:
        """Start a batch, or as much of it as there is room for.

        Raises:
            RunError: There is no room for a single picture, also with nothing else on the device.
        """
        return self._start(images, wait=True)

    def collect(self, running: Any) -> list[Instances]:
        """Wait for a batch, and do the part of it that had to wait. Raises RunError as :meth:`submit`."""
        found = self._finish(running)
        later, running.later = running.later, ()
        return found + [one for part in self._parts(later) for one in self._finish(part)]

    def _parts(self, pictures: Pictures) -> Iterator[_Running]:
        while len(pictures):
            # The batches that submit() would wait for wait for us.
            part = self._start(pictures, wait=False)
            pictures, part.later = part.later, ()
            yield part

    def _start(self, pictures: Pictures, *, wait: bool) -> _Running:
        """Submit as many pictures as fit."""
        while True:
            now = pictures[: self._limit]
            if self._submits(running := _Running(now, None, pictures[self._limit :])):
                return running
            if len(now) == 1:
                if wait:
                    with self._left:
                        self._left.wait_for(lambda: self._on_device == 0, _WAIT_FOR_MEMORY)
                if self._submits(running):
                    return running
                raise _no_room(now)

    def _submits(self, running: _Running) -> bool:
        try:
            with self._one_submits:
                running.submitted = self._model.submit(running.pictures)
        except torch.OutOfMemoryError as error:
            self._lower_limit(len(running.pictures), error)
        else:
            with self._left:
                self._on_device += 1
            return True
        _free_memory()  # not in the except clause, whose traceback holds tensors
        return False

    def _finish(self, running: _Running, *, again: bool = False) -> list[Instances]:
        """Collect what was submitted; if there is no room for its results, do it again in halves."""
        try:
            return self._model.collect(running.submitted)
        except torch.OutOfMemoryError as error:
            if again and len(running.pictures) == 1:
                raise _no_room(running.pictures) from error
            self._lower_limit(len(running.pictures), error)
        finally:
            running.submitted = None
            with self._left:
                self._on_device -= 1
                self._left.notify()
        _free_memory()
        return [one for part in self._parts(running.pictures) for one in self._finish(part, again=True)]

    def _lower_limit(self, count: int, error: Exception) -> None:
        limit = max(1, count // 2)
        if limit < self._limit:
            self._limit = limit
            logger.warning(
                "out of device memory with %d pictures at a time, going on with %d (%s)", count, limit, error
            )


def _no_room(pictures: Pictures) -> RunError:
    height, width = pictures[0].shape[:2]
    return RunError(
        f"the device's memory does not hold a single picture of {width}x{height}: "
        f"stop other programs on it, or choose --device cpu"
    )


def _free_memory() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
