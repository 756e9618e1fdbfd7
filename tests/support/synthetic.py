"""A model that takes as long as it is told to and finds nothing, or always the same."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamseg.types import Instances


class Submitted(NamedTuple):
    """A batch on the simulated device."""

    sizes: list[tuple[int, int]]
    """Height and width of each picture."""
    done_at: float
    """When the device is done with it, by the monotonic clock."""


class SyntheticModel:
    """Takes ``base + per_frame * n`` seconds for n pictures; one batch after the other, as a device does.

    ``asynchronous`` works like CUDA: handing a batch over takes no time, and the device begins with it as it
    ends the one before, whoever waits. Else handing over does all the device's work, as on a CPU.
    ``host`` is the time that finishing a picture takes.
    """

    name = "synthetic"
    classes = ("person",)

    def __init__(
        self,
        base: float = 0.0,
        per_frame: float = 0.0,
        *,
        host: float = 0.0,
        asynchronous: bool = False,
        objects: bool = False,
    ) -> None:
        self.base, self.per_frame, self.host = base, per_frame, host
        self.asynchronous, self.objects = asynchronous, objects
        self.batches: list[int] = []
        self._busy_until = 0.0

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def submit(self, images: Sequence[NDArray[np.uint8]]) -> Submitted:
        self.batches.append(len(images))
        self._busy_until = max(time.monotonic(), self._busy_until) + self.base + self.per_frame * len(images)
        submitted = Submitted([(image.shape[0], image.shape[1]) for image in images], self._busy_until)
        if not self.asynchronous:
            self.wait(submitted)
        return submitted

    def wait(self, ticket: Submitted) -> None:
        time.sleep(max(0.0, ticket.done_at - time.monotonic()))

    def finish(self, ticket: Submitted, k: int) -> Instances:
        if self.host:
            time.sleep(self.host)
        return self._instances(*ticket.sizes[k])

    def _instances(self, height: int, width: int) -> Instances:
        n = int(self.objects)
        return Instances(
            height=height,
            width=width,
            class_ids=np.zeros(n, np.int64),
            labels=("person",) * n,
            scores=np.full(n, 0.9, np.float32),
            boxes=np.array([[8, 8, 40, 40]] * n, np.int64).reshape(-1, 4),
            crops=(np.ones((32, 32), np.bool_),) * n,
        )
