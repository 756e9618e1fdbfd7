"""Tracked boxes in frames of 640x480 that nothing stands behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from streamseg.types import Frame, Instances
from tests.support.frames import make_frame

WIDTH, HEIGHT = 640, 480
BOX = 20, 40
"""Width and height of an object."""


def frame(index: int, *, epoch: int = 0) -> Frame:
    return replace(make_frame("cam", index, width=WIDTH, height=HEIGHT), epoch=epoch)


def standing(feet: Mapping[int, tuple[float, float]], *, label: str = "person") -> Instances:
    """Objects by track id, each a filled box above the point where it stands."""
    n = len(feet)
    places = np.rint(np.array(list(feet.values()), np.float64)).astype(np.int64).reshape(-1, 2)
    half = BOX[0] // 2
    boxes = np.concatenate([places - np.array([half, BOX[1]]), places + np.array([half, 0])], axis=1)
    return Instances(
        height=HEIGHT,
        width=WIDTH,
        class_ids=np.zeros(n, np.int64),
        labels=(label,) * n,
        scores=np.full(n, 0.9, np.float32),
        boxes=boxes,
        crops=tuple(np.ones((BOX[1], BOX[0]), np.bool_) for _ in range(n)),
        ids=tuple(feet),
    )
