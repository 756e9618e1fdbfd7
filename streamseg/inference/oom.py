"""Going on when a batch does not fit into the device's memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic

import numpy as np
import torch
from numpy.typing import NDArray

from streamseg.config import ModelConfig
from streamseg.errors import RunError
from streamseg.inference.segmenter import Segmenter
from streamseg.inference.tickets import BatchTicket
from streamseg.types import Instances, Meter, Model, Ticket

logger = logging.getLogger(__name__)

_WAIT_FOR_MEMORY = 30.0
"""Seconds for the batches before to leave the device, when there is no room for one more picture."""

Pictures = Sequence[NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, eq=False)
class _SubBatch(Generic[Ticket]):
    """Pictures that are on the device together."""

    pictures: Pictures
    ticket: Ticket


@dataclass(slots=True, eq=False)
class GuardedTicket(Generic[Ticket]):
    """A batch under way."""

    part: _SubBatch[Ticket] | None
    """What is on the device, until it is waited for."""
    later: Pictures
    """What has to wait until that is done."""
    places: list[tuple[Ticket, int]] = field(default_factory=list)
    """Of each picture that was waited for: the inner ticket, and its number there."""


class OomGuard(Generic[Ticket]):
    """A model that does a batch again in halves when the device's memory does not hold it.

    No batch goes to the device as a larger whole from then on: another program on the device, or
    larger pictures, cost speed and not the service.
    """

    def __init__(self, model: Model[Ticket]) -> None:
        """Guard ``model``, whose ``wait`` lets go of the device's memory also when it raises."""
        self.name, self.classes = model.name, model.classes
        self._model = model
        self._limit = 1 << 30
        """Pictures that may go to the device together."""
        self._on_device = 0
        self._left = threading.Condition()
        self._one_submits = threading.Lock()

    @staticmethod
    def load(config: ModelConfig, *, meter: Meter | None = None, max_batch: int = 1) -> OomGuard[BatchTicket]:
        """Load a segmenter and run it once; on CUDA every batch size to ``max_batch`` that has a graph.

        ``meter`` and errors are those of :meth:`Segmenter.load`; also raises RunError if the device has no
        room for it.
        """
        try:
            segmenter = Segmenter.of(config, meter=meter)
            segmenter.warm_up(max_batch=max_batch)
        except torch.OutOfMemoryError as error:
            raise RunError(f"the device's memory does not hold the model: {error}") from error
        return OomGuard(segmenter)

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Size at which a picture enters the network."""
        return self._model.canvas(height, width)

    def submit(self, pictures: Pictures) -> GuardedTicket[Ticket]:
        """Start a batch, or as much of it as there is room for; pictures are (H, W, 3) uint8 RGB.

        Raises:
            RunError: There is no room for a single picture, also with nothing else on the device.
        """
        part, later = self._start(pictures, patient=True)
        return GuardedTicket(part, later)

    def wait(self, ticket: GuardedTicket[Ticket]) -> None:
        """Return when the device is done with all of a batch, also with what had to wait.

        Raises RunError as :meth:`submit`.
        """
        part, ticket.part = ticket.part, None
        later, ticket.later = ticket.later, ()
        assert part is not None, "a batch is waited for once"
        ticket.places = self._wait_for(part)
        for another in self._parts(later):
            ticket.places += self._wait_for(another)

    def finish(self, ticket: GuardedTicket[Ticket], k: int) -> Instances:
        """The instances of a batch's picture ``k``, after :meth:`wait`; once for each, in any thread."""
        inner, place = ticket.places[k]
        return self._model.finish(inner, place)

    def _parts(self, pictures: Pictures) -> Iterator[_SubBatch[Ticket]]:
        while len(pictures):
            # Not patient: the batches before leave the device only when this thread goes on.
            part, pictures = self._start(pictures, patient=False)
            yield part

    def _start(self, pictures: Pictures, *, patient: bool) -> tuple[_SubBatch[Ticket], Pictures]:
        """Submit as many pictures as fit; returns them and the rest.

        ``patient``: wait for the batches before to leave the device, if there is no room for one picture.
        """
        while True:
            now, later = pictures[: self._limit], pictures[self._limit :]
            if (part := self._submitted(now)) is not None:
                return part, later
            if len(now) > 1:
                continue
            if patient:
                with self._left:
                    self._left.wait_for(lambda: self._on_device == 0, _WAIT_FOR_MEMORY)
            if (part := self._submitted(now)) is not None:
                return part, later
            raise _no_room(now)

    def _submitted(self, pictures: Pictures) -> _SubBatch[Ticket] | None:
        """The pictures on the device, or None if there is no room for them."""
        try:
            with self._one_submits:
                part = _SubBatch(pictures, self._model.submit(pictures))
        except torch.OutOfMemoryError as error:
            self._lower_limit(len(pictures), error)
        else:
            with self._left:
                self._on_device += 1
            return part
        _free_memory()  # not in the except clause, whose traceback holds tensors
        return None

    def _wait_for(self, part: _SubBatch[Ticket], *, again: bool = False) -> list[tuple[Ticket, int]]:
        """Wait for a part; if there is no room for its results, do it again in halves.

        Returns where each of its pictures is found. ``again``: it was submitted because of that already.
        """
        count = len(part.pictures)
        try:
            self._model.wait(part.ticket)
            return [(part.ticket, k) for k in range(count)]
        except torch.OutOfMemoryError as error:
            if again and count == 1:
                raise _no_room(part.pictures) from error
            self._lower_limit(count, error)
        finally:
            with self._left:
                self._on_device -= 1
                self._left.notify()
        _free_memory()
        return [place for half in self._parts(part.pictures) for place in self._wait_for(half, again=True)]

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
