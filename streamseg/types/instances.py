"""What the model finds in one picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from streamseg.masks.rle import RunLengths
from streamseg.types.detections import make_detections
from streamseg.types.display import png_of

if TYPE_CHECKING:
    from supervision import Detections

_LISTED = 5
"""Objects that a repr lists."""

Selection = (
    int | np.integer[Any] | slice | list[int] | list[bool] | NDArray[np.bool_] | NDArray[np.integer[Any]]
)
"""Which instances: a number, a slice, a bool mask (N,), or numbers (n,) in any order."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Instances:
    """The objects found in one image, best score first (N of them; N may be 0).

    They can be indexed like an array, which gives Instances again:

        instances[0]                            # the best one
        instances[:5]
        instances[instances.scores > 0.5]       # bool (N,)
        instances[np.argsort(instances.boxes[:, 0])]
        for instance in instances: ...          # Instances of one each

    Raises:
        ValueError: The arrays do not fit each other.
    """

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
    run_lengths: tuple[RunLengths, ...] = ()
    """N masks as results publish them; empty if nobody has made them yet."""

    def __post_init__(self) -> None:
        n = len(self.labels)
        if self.class_ids.shape != (n,) or self.scores.shape != (n,) or len(self.crops) != n:
            raise ValueError(
                f"class_ids, labels, scores and crops must have one length, got {self.class_ids.shape}, "
                f"{n}, {self.scores.shape} and {len(self.crops)}"
            )
        if self.boxes.shape != (n, 4):
            raise ValueError(f"boxes must be (N, 4) with N = {n}, got {self.boxes.shape}")
        for name, values in (("ids", self.ids), ("run_lengths", self.run_lengths)):
            if len(values) not in {0, n}:
                raise ValueError(f"{name} must be empty or {n}, got {len(values)}")
        for rle in self.run_lengths:
            if tuple(rle.size) != (self.height, self.width):
                raise ValueError(f"run lengths must be of {self.height, self.width}, got {tuple(rle.size)}")
        for (x1, y1, x2, y2), crop in zip(self.boxes.tolist(), self.crops, strict=True):
            if crop.shape != (y2 - y1, x2 - x1):
                raise ValueError(f"a crop must fill its box {x1, y1, x2, y2}, got {crop.shape}")

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Instances]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Selection) -> Instances:
        """The instances that ``key`` selects. Raises IndexError as numpy does."""
        chosen = np.atleast_1d(np.arange(len(self))[_as_index(key)])
        places = chosen.tolist()
        return Instances(
            height=self.height,
            width=self.width,
            class_ids=self.class_ids[chosen],
            labels=tuple(self.labels[i] for i in places),
            scores=self.scores[chosen],
            boxes=self.boxes[chosen],
            crops=tuple(self.crops[i] for i in places),
            ids=tuple(self.ids[i] for i in places) if self.ids else (),
            run_lengths=tuple(self.run_lengths[i] for i in places) if self.run_lengths else (),
        )

    def __repr__(self) -> str:
        ids = self.ids or (None,) * len(self)
        listed = list_objects(zip(self.labels, self.scores.tolist(), ids, strict=True))
        return f"Instances({len(self)} in {self.width}x{self.height}{listed})"

    def masks(self) -> NDArray[np.bool_]:
        """Full masks, (N, height, width) bool. Costs N full frames of memory."""
        full = np.zeros((len(self), self.height, self.width), dtype=np.bool_)
        for mask, (x1, y1, x2, y2), crop in zip(full, self.boxes, self.crops, strict=True):
            mask[y1:y2, x1:x2] = crop
        return full

    def to_supervision(self) -> Detections:
        """The objects as ``supervision.Detections``, with full masks and ``data["class_name"]``.

        Raises:
            UsageError: The package supervision is missing (``pip install 'streamseg[supervision]'``).
        """
        return make_detections(
            boxes=self.boxes,
            masks=self.masks(),
            labels=self.labels,
            class_ids=self.class_ids,
            scores=self.scores,
            ids=self.ids,
        )

    def _repr_png_(self) -> bytes:
        """What a notebook shows: the masks on grey, for the picture is not kept."""
        return png_of(self)


def describe_object(label: str, score: float, track_id: int | None) -> str:
    """An object in a few characters: ``person 0.93 #7``."""
    return f"{label} {score:.2f}" + ("" if track_id is None else f" #{track_id}")


def list_objects(objects: Iterable[tuple[str, float, int | None]]) -> str:
    """The first few objects, label, score and track id of each: ``: person 0.93 #7, car 0.80, ...``."""
    texts = [describe_object(*values) for values in objects]
    more = ", ..." if len(texts) > _LISTED else ""
    return f": {', '.join(texts[:_LISTED])}{more}" if texts else ""


def _as_index(key: Selection) -> Any:
    """``key`` as numpy takes it: of a list, an empty one selects nothing."""
    if isinstance(key, list):
        return np.array(key, dtype=None if key else np.int64)
    if isinstance(key, bool | np.bool_) or (isinstance(key, np.ndarray) and key.ndim != 1):
        raise IndexError(f"instances take a number, a slice, a bool mask (N,) or numbers (n,), not {key!r}")
    return key
