"""Run lengths of masks at source resolution, made on the host.

A source pixel is a mean of network pixels, three of a row times three of a column at most. Where all of these
are above the threshold, or all below, it is known without a sum: of large masks that is nine tenths. What is
left is summed as :mod:`streamseg.masks.upsample` says, in the same order, rounded one by one.

All masks of a picture go through together, in few calls of numpy, each of which releases Python's lock: so
finishing threads work side by side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.masks.runs import MaskRuns
from streamseg.masks.upsample import Geometry, Resampling, resampling

_SURE = 1e-6
"""A mean of values in [0, 1] that are that far above the threshold is above it, however it is rounded: ten
roundings of float32 are off by 6e-7."""
_AT_ONCE = 1 << 16
"""Values in one step: they stay in the processor's cache, and small masks go together."""


class _Window(NamedTuple):
    """Where a mask is: in the network's pixels (left ... bottom) and in the source's."""

    mask: int
    left: int
    right: int
    top: int
    bottom: int
    x1: int
    x2: int
    y1: int
    y2: int


@dataclass(frozen=True, slots=True, eq=False)
class _Blocks:
    """Source rows that depend on the same network rows: B blocks of at most R rows."""

    taps: NDArray[np.int64]
    """(B,) the first of these network rows."""
    starts: NDArray[np.int64]
    """(B + 1,) first source row of each, and the one past the last."""
    weights: NDArray[np.float32]
    """(TAPS, R, B) of the network rows; what a block is shorter repeats its last row."""

    def within(self, top: int, bottom: int) -> "_Blocks":
        """The blocks that depend on rows ``top`` to ``bottom`` only, counted from ``top`` on."""
        first, past = np.searchsorted(self.taps, (top, bottom - len(self.weights) + 1)).tolist()
        rows = slice(first, past)
        return _Blocks(self.taps[rows] - top, self.starts[first : past + 1], self.weights[:, :, rows])


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """C source columns of some masks, one behind the other, in H network rows."""

    values: NDArray[np.float32]
    """(C, H)"""
    x: NDArray[np.int64]
    """(C,) which column of the source."""
    window: NDArray[np.int64]
    """(C,) which mask."""


@dataclass(frozen=True, slots=True, eq=False)
class _Summed:
    """n blocks of columns whose rows had to be summed."""

    column: NDArray[np.int64]
    """(n,)"""
    block: NDArray[np.int64]
    """(n,)"""
    on: NDArray[np.bool_]
    """(R, n) each row: whether it is in the mask."""


def mask_runs(soft_masks: NDArray[np.float32], geometry: Geometry, *, threshold: float) -> MaskRuns:
    """(N, h, w) soft masks over the canvas, in [0, 1] -> the runs of their pixels above ``threshold``.

    Equal, bit for bit, to thresholding what the taps and weights of :func:`resampling` make of each mask
    inside the box that its network pixels above the threshold reach.
    """
    (height, width), (h, w) = geometry.source, soft_masks.shape[1:]
    rows = resampling(h, geometry.canvas[0], geometry.resized[0], height)
    columns = resampling(w, geometry.canvas[1], geometry.resized[1], width)
    blocks = _blocks(h, geometry.canvas[0], geometry.resized[0], height)
    inside = (soft_masks > threshold).view(np.uint8)
    windows = [window for k, one in enumerate(inside) if (window := _window(k, one, rows, columns))]
    counts = np.zeros(len(soft_masks), np.int64)
    edges = [np.zeros(0, np.int64)]
    for group in _groups(windows):
        found, of_each = _edges(soft_masks, group, columns, blocks, threshold)
        edges.append(found)
        counts[[window.mask for window in group]] = of_each
    return MaskRuns(height, width, np.concatenate(edges), counts)


def _window(mask: int, inside: NDArray[np.uint8], rows: Resampling, columns: Resampling) -> _Window | None:
    """Where a mask is; None if nothing of it is in the source."""
    left, top, across, down = cv2.boundingRect(inside)
    if not across:
        return None
    x1, x2 = int(columns.first[left]), int(columns.last[left + across - 1]) + 1
    y1, y2 = int(rows.first[top]), int(rows.last[top + down - 1]) + 1
    if x2 <= x1 or y2 <= y1:
        return None
    left, right = int(columns.taps[x1]), int(columns.taps[x2 - 1]) + len(columns.weights)
    top, bottom = int(rows.taps[y1]), int(rows.taps[y2 - 1]) + len(rows.weights)
    return _Window(mask, left, right, top, bottom, x1, x2, y1, y2)


def _groups(windows: Sequence[_Window]) -> Iterator[list[_Window]]:
    """Masks that go through together."""
    group: list[_Window] = []
    columns, top, bottom = 0, 0, 0
    for window in windows:
        wide = columns + window.x2 - window.x1
        above, below = (min(top, window.top), max(bottom, window.bottom)) if group else window[3:5]
        if group and wide * (below - above) > _AT_ONCE:
            yield group
            group, wide, (above, below) = [], window.x2 - window.x1, window[3:5]
        group.append(window)
        columns, top, bottom = wide, above, below
    if group:
        yield group


def _edges(
    soft_masks: NDArray[np.float32],
    windows: Sequence[_Window],
    across: Resampling,
    blocks: _Blocks,
    threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges of some masks' runs, and how many each has."""
    top, bottom = min(w.top for w in windows), max(w.bottom for w in windows)
    near = blocks.within(top, bottom)
    columns = _columns(soft_masks[:, top:bottom], windows, across)
    on, unknown = _known(columns.values, near, threshold)
    summed = _summed(columns, unknown, windows, near, threshold)
    # A position in the columns, each one longer than the source's: it may end behind its last row.
    height = int(blocks.starts[-1])
    order = np.concatenate((_at_borders(on, summed, near, height + 1), _within(summed, near, height + 1)))
    order.sort()
    column = order // (height + 1)
    position = columns.x[column] * height + order - column * (height + 1)
    ends = np.cumsum([w.x2 - w.x1 for w in windows])
    return position, np.diff(np.searchsorted(column, ends), prepend=0)


def _columns(soft_masks: NDArray[np.float32], windows: Sequence[_Window], across: Resampling) -> _Columns:
    """Every source column of the windows, made of network columns; ``soft_masks`` (N, H, w)."""
    # Columns first: the network's columns are then taken whole.
    network = np.concatenate([soft_masks[w.mask, :, w.left : w.right].T for w in windows])
    sizes = np.array([(w.right - w.left, w.left, w.x2 - w.x1, w.x1) for w in windows])
    taken, left, count, first = sizes.T
    window = np.repeat(np.arange(len(windows)), count)
    x = np.arange(window.size) + (first - count.cumsum() + count)[window]
    place = across.taps[x] + (taken.cumsum() - taken - left)[window]
    values = network.take(place, axis=0)
    values *= across.weights[0].take(x)[:, None]
    term = np.empty_like(values)
    for weights in across.weights[1:]:
        place += 1
        network.take(place, axis=0, out=term, mode="clip")  # clip: the other modes check every index
        term *= weights.take(x)[:, None]
        values += term
    return _Columns(values, x, window)


def _known(
    values: NDArray[np.float32], blocks: _Blocks, threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(C, B): blocks of columns that are in the mask for sure; and those that are neither in nor out."""
    above, below = (values > threshold + _SURE).ravel(), (values < threshold - _SURE).ravel()
    for _ in blocks.weights[1:]:  # network rows below one another; past the end of a column is no block
        above[:-1] &= above[1:]
        below[:-1] &= below[1:]
    on = above.reshape(values.shape)[:, blocks.taps]
    unknown = below.reshape(values.shape)[:, blocks.taps]
    unknown |= on
    return on, np.logical_not(unknown, out=unknown)


def _summed(
    columns: _Columns,
    unknown: NDArray[np.bool_],
    windows: Sequence[_Window],
    blocks: _Blocks,
    threshold: float,
) -> _Summed:
    """The rows of what is ``unknown`` (C, B)."""
    column, block = _split(np.flatnonzero(unknown), unknown.shape[1])
    values = columns.values.ravel()
    place = column * columns.values.shape[1] + blocks.taps[block]
    total = blocks.weights[0].take(block, axis=1)
    total *= values.take(place)
    term = np.empty_like(total)
    for weights in blocks.weights[1:]:
        place += 1
        weights.take(block, axis=1, out=term, mode="clip")
        term *= values.take(place)
        total += term
    on = total > threshold
    # A mean of what is not above the threshold may be rounded to above it: that counts inside the window.
    close = total <= threshold + _SURE
    close &= on
    row, cell = _split(np.flatnonzero(close), max(1, block.size))
    y = np.minimum(blocks.starts[block[cell]] + row, blocks.starts[block[cell] + 1] - 1)
    limits = np.array([(w.y1, w.y2) for w in windows])[columns.window[column[cell]]]
    on[row, cell] = (y >= limits[:, 0]) & (y < limits[:, 1])
    return _Summed(column, block, on)


def _at_borders(on: NDArray[np.bool_], summed: _Summed, blocks: _Blocks, step: int) -> NDArray[np.int64]:
    """Edges between blocks; a position in a column of ``step`` rows."""
    count, many = on.shape
    before, after = np.zeros((2, count, many + 1), np.bool_)
    before[:, 1:], after[:, :-1] = on, on
    place = summed.column * (many + 1) + summed.block
    after.ravel()[place], before.ravel()[place + 1] = summed.on[0], summed.on[-1]
    column, border = _split(np.flatnonzero(before != after), many + 1)
    return column * step + blocks.starts[border]


def _within(summed: _Summed, blocks: _Blocks, step: int) -> NDArray[np.int64]:
    """Edges between the rows of one block; a position in a column of ``step`` rows."""
    changes = np.flatnonzero(summed.on[1:] != summed.on[:-1])
    row, cell = _split(changes, max(1, summed.block.size))
    return summed.column[cell] * step + blocks.starts[summed.block[cell]] + row + 1


def _split(places: NDArray[np.int64], row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of places in an array whose rows have ``row`` entries: faster than np.nonzero."""
    rows = places // row
    return rows, places - rows * row


@lru_cache(maxsize=64)
def _blocks(network: int, canvas: int, resized: int, source: int) -> _Blocks:
    axis = resampling(network, canvas, resized, source)
    starts = np.flatnonzero(np.diff(axis.taps, prepend=-1))
    ends = np.append(starts[1:], source)
    rows = np.minimum(starts + np.arange((ends - starts).max())[:, None], ends - 1)
    weights = np.ascontiguousarray(axis.weights[:, rows])
    return _Blocks(axis.taps[starts], np.append(starts, source), weights)
