"""A stand-in for the model: it sees objects that follow from the number a clip shows in its pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamseg.config import ModelConfig
from streamseg.types import Instances
from tests.support.media import read_counter

SIZE = 12
"""Rows and columns of an object."""


def objects_in(number: int, height: int, width: int) -> Instances:
    """Four things that move, hide now and then, and whose scores pass 0.4, where tracks begin."""
    boxes, scores = [], []
    for k in range(4):
        if height < 2 * SIZE or width < 2 * SIZE or (number + 7 * k) % 31 < 5:
            continue
        x = (23 * k + (1 + k) * number) % (width - SIZE)
        y = (11 * k + number // 3) % (height - SIZE)
        boxes.append((x, y, x + SIZE, y + SIZE))
        scores.append(0.42 + 0.12 * np.sin(0.5 * number + k))
    scores = [0.39996 if abs(score - 0.4) < 0.004 else score for score in scores]
    order = np.argsort([-score for score in scores], kind="stable")
    shape = np.hypot(*np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]) <= 1.1
    return Instances(
        height=height,
        width=width,
        class_ids=np.array([int(k) % 2 for k in order], np.int64),
        labels=tuple(("person", "car")[int(k) % 2] for k in order),
        scores=np.array([scores[k] for k in order], np.float32),
        boxes=np.array([boxes[k] for k in order], np.int64).reshape(-1, 4),
        crops=tuple(shape for _ in order),
    )


class Moving:
    """Finds :func:`objects_in` every picture, in a given time."""

    name = "moving"
    classes = ("person", "car")

    def __init__(self, seconds: float = 0.0) -> None:
        """``seconds`` a picture."""
        self.seconds = seconds

    @classmethod
    def load(cls, config: ModelConfig, **options: object) -> Moving:
        return cls(float(config.weights))

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def submit(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        return list(images)

    def wait(self, ticket: list[NDArray[np.uint8]]) -> None:
        time.sleep(self.seconds * len(ticket))

    def finish(self, ticket: list[NDArray[np.uint8]], k: int) -> Instances:
        height, width = ticket[k].shape[:2]
        number = read_counter(ticket[k]) if min(height, width) >= SIZE else 0
        return objects_in(number, height, width)
