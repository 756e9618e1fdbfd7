"""What the model finds in one picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Instances:
    """The objects found in one image, best score first (N of them; N may be 0)."""

    height: int
    width: int
    class_ids: NDArray[np.int64]
    """(N,) indices into the model's class names."""
    labels: tuple[str, ...]
    """N class names."""
    scores: NDArray[np.float32]
    """(N,) in [0, 1]."""
    boxes: NDArray[np.int64]
    """(N, 4) x1, y1, x2, y2, tight around the mask, x2 and y2 exclusive."""
    crops: tuple[NDArray[np.bool_], ...]
    """N masks, each (y2 - y1, x2 - x1), the part of the full mask inside its box."""
    ids: tuple[int | None, ...] = ()
    """N track ids, unique in the frame; None each (or empty) without tracking."""

    def __post_init__(self) -> None:
        n = len(self.labels)
        if not (len(self.class_ids) == len(self.scores) == len(self.boxes) == len(self.crops) == n):
            raise ValueError("class_ids, labels, scores, boxes and crops must have one length")

    def __len__(self) -> int:
        return len(self.labels)

    def masks(self) -> NDArray[np.bool_]:
        """Full masks, (N, height, width) bool. Costs N full frames of memory."""
        full = np.zeros((len(self), self.height, self.width), dtype=np.bool_)
        for mask, (x1, y1, x2, y2), crop in zip(full, self.boxes, self.crops, strict=True):
            mask[y1:y2, x1:x2] = crop
        return full
