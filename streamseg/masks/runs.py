"""Masks of one picture as where their runs begin and end: all else is made of that, when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray

from streamseg.masks.rle import RunLengths, encode_edges


@dataclass(frozen=True, slots=True, eq=False)
class MaskRuns:
    """N masks of a picture of ``height`` rows and ``width`` columns."""

    height: int
    width: int
    edges: NDArray[np.int64]
    """(E,) first and one-past-last positions of runs by turns, in column-major order, mask by mask, ascending
    in each. Every run ends with its column."""
    counts: NDArray[np.int64]
    """(N,) how many of the edges each mask has: 0 if it is empty."""

    def __len__(self) -> int:
        return len(self.counts)

    def of_mask(self, i: int) -> NDArray[np.int64]:
        """The edges of one mask."""
        end = int(self.counts[: i + 1].sum())
        return self.edges[end - int(self.counts[i]) : end]

    def some(self, places: Sequence[int]) -> MaskRuns:
        """The masks at these places, in this order."""
        if list(places) == list(range(len(self))):
            return self
        parts = np.split(self.edges, self.counts.cumsum()[:-1])
        edges = np.concatenate([self.edges[:0], *(parts[i] for i in places)])
        return MaskRuns(self.height, self.width, edges, self.counts[list(places)])

    def boxes(self) -> NDArray[np.int64]:
        """(N, 4) x1, y1, x2, y2 tight around the masks, none of which may be empty; x2, y2 exclusive."""
        if not len(self):
            return np.zeros((0, 4), np.int64)
        columns = self.edges[0::2] // self.height
        above = columns * self.height
        last = (self.counts // 2).cumsum()
        first = last - self.counts // 2
        sides = (
            columns[first],
            np.minimum.reduceat(self.edges[0::2] - above, first),
            columns[last - 1] + 1,
            np.maximum.reduceat(self.edges[1::2] - above, first),
        )
        return np.stack(sides, axis=1)

    def areas(self) -> NDArray[np.int64]:
        """(N,) pixels of each mask."""
        ends = np.append(0, (self.edges[1::2] - self.edges[0::2]).cumsum())[self.counts.cumsum() // 2]
        areas: NDArray[np.int64] = np.diff(ends, prepend=0)
        return areas

    def run_lengths(self) -> tuple[RunLengths, ...]:
        """The masks as results publish them."""
        return encode_edges(self.edges, self.counts, self.height, self.width)


@dataclass(frozen=True, slots=True, eq=False)
class RunCrops(Sequence[NDArray[np.bool_]]):
    """The masks inside their boxes, each made when somebody looks at it for the first time.

    Any thread may look. Results need no mask as pixels, and an output that drops a picture neither.
    """

    runs: MaskRuns
    boxes: NDArray[np.int64]
    """(N, 4) as of :meth:`MaskRuns.boxes`."""
    areas: NDArray[np.int64]
    """(N,) pixels of each mask."""
    _made: list[NDArray[np.bool_] | None] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_made", [None] * len(self.runs))

    @staticmethod
    def of(runs: MaskRuns) -> RunCrops:
        """The crops of masks, none of which is empty."""
        return RunCrops(runs, runs.boxes(), runs.areas())

    def __len__(self) -> int:
        return len(self.runs)

    @overload
    def __getitem__(self, key: int) -> NDArray[np.bool_]: ...
    @overload
    def __getitem__(self, key: slice) -> RunCrops: ...
    def __getitem__(self, key: int | slice) -> NDArray[np.bool_] | RunCrops:
        """One (y2 - y1, x2 - x1) mask, or the sequence of some."""
        if isinstance(key, slice):
            return self.some(range(len(self))[key])
        if (crop := self._made[key]) is None:
            i = range(len(self))[key]
            crop = self._made[key] = _crop(self.runs.of_mask(i), self.boxes[i].tolist(), self.runs.height)
        return crop

    def __iter__(self) -> Iterator[NDArray[np.bool_]]:
        return (self[i] for i in range(len(self)))

    def some(self, places: Sequence[int]) -> RunCrops:
        """Those at these places, in this order; what was made of them stays made."""
        chosen = list(places)
        found = RunCrops(self.runs.some(chosen), self.boxes[chosen], self.areas[chosen])
        found._made[:] = [self._made[i] for i in chosen]
        return found


def _crop(edges: NDArray[np.int64], box: Sequence[int], height: int) -> NDArray[np.bool_]:
    """The mask inside its ``box`` in a picture of ``height`` rows."""
    import cv2  # noqa: PLC0415  subscribers, who know the types, do without

    x1, y1, x2, y2 = box
    columns = edges[0::2] // height
    # From positions in the picture to positions in the box, which has fewer rows.
    shift = y1 + x1 * (y2 - y1) + columns * (height - y2 + y1)
    lengths = np.diff(edges - shift.repeat(2), prepend=0, append=(x2 - x1) * (y2 - y1))
    ones = np.zeros(lengths.size, np.uint8)
    ones[1::2] = 1
    crop: NDArray[np.bool_] = cv2.transpose(ones.repeat(lengths).reshape(x2 - x1, y2 - y1)).view(np.bool_)
    return crop
