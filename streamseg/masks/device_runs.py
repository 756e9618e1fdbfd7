"""Run lengths of masks at source resolution, made on the device.

The same sums in the same order as in :mod:`streamseg.masks.upsample`, rounded one by one: what comes out is
equal, bit for bit, to what :func:`~streamseg.masks.host_runs.mask_runs` returns. All masks of a batch go
through together: their windows lie one behind the other, column by column.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamseg.masks.upsample import TAPS, Geometry, Resampling, resampling

_EDGES = 6
"""Room for so many edges a column at first; a mask without holes has two."""


class _Tables(NamedTuple):
    """The resampling of all axes, one behind the other."""

    taps: Tensor
    """(TAPS, length) int64 network pixels."""
    weights: Tensor
    """(TAPS, length) float32."""
    axes: list[tuple[Resampling, Resampling]]
    """Of rows and of columns, for each geometry."""
    starts: list[tuple[int, int]]
    """Where they begin."""


class _MaskWindows(NamedTuple):
    """M masks' windows: (M,) int64 each."""

    mask: Tensor
    y: Tensor
    """First source row."""
    x: Tensor
    """First source column."""
    rows: Tensor
    """Source rows, and one before each column that is empty."""
    columns: Tensor
    above: Tensor
    """First network row."""
    lines: Tensor
    """Network rows."""
    row_table: Tensor
    """Where the first source row is in the tables."""
    column_table: Tensor
    height: Tensor
    """Of the source."""


def spans(soft_masks: Tensor, threshold: float) -> Tensor:
    """(..., h, w) -> (..., 4) int64: first and one past the last row and column above the threshold.

    0 and 0 where there is none.
    """
    inside = soft_masks > threshold
    sides = []
    for dim in (-1, -2):
        line = inside.any(dim=dim).long()
        past = line.shape[-1] - line.flip(-1).argmax(dim=-1)
        sides += [line.argmax(dim=-1), past * line.amax(dim=-1)]
    return torch.stack(sides, dim=-1)


def run_edges(
    soft_masks: Tensor, spans: NDArray[np.int64], geometries: Sequence[Geometry], *, threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(M, h, w) soft masks over the canvas -> the edges of M masks' runs in their sources, mask by mask.

    ``spans`` (M, 4) as of :func:`spans`, ``geometries`` one for each mask. Edges, and the second array, are
    those of :class:`~streamseg.masks.runs.MaskRuns`. The host waits for the device once (again if a mask is
    as ragged as noise).
    """
    counts = np.zeros(len(geometries), np.int64)
    if not geometries:
        return counts[:0], counts
    different = tuple(dict.fromkeys(geometries))
    tables = _tables(different, tuple(soft_masks.shape[1:]), soft_masks.device)
    layout = _layout(spans, np.array([different.index(g) for g in geometries]), tables)
    if not len(layout):
        return counts[:0], counts
    mask, edges = _download(
        *_changes(soft_masks, layout, tables, threshold), room=_EDGES * int(layout[:, 4].sum())
    )
    counts[layout[:, 0]] = np.bincount(mask, minlength=len(layout))
    return edges, counts


def _layout(spans: NDArray[np.int64], geometry: NDArray[np.int64], tables: _Tables) -> NDArray[np.int64]:
    """One row of :class:`_MaskWindows` for each mask that has something in its source.

    ``geometry`` (M,) says which of the tables' a mask has.
    """
    parts = []
    for number, ((rows, columns), starts) in enumerate(zip(tables.axes, tables.starts, strict=True)):
        mask = np.flatnonzero((geometry == number) & (spans[:, 1] > spans[:, 0]))
        top, bottom, left, right = spans[mask].T
        y, y_past = rows.first[top], rows.last[bottom - 1] + 1
        x, x_past = columns.first[left], columns.last[right - 1] + 1
        there = (y_past > y) & (x_past > x)
        mask, y, y_past, x, x_past = (side[there] for side in (mask, y, y_past, x, x_past))
        above = rows.taps[y]
        lines = rows.taps[y_past - 1] + len(rows.weights) - above
        height = np.full_like(mask, len(rows.taps))
        sides = (y_past - y + 1, x_past - x, above, lines, starts[0] + y, starts[1] + x, height)
        parts.append(np.stack((mask, y, x, *sides), axis=1))
    layout = np.concatenate(parts)
    return layout[layout[:, 0].argsort()]


def _changes(
    soft_masks: Tensor, layout: NDArray[np.int64], tables: _Tables, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Of all pixels of all windows: whether a run begins or ends behind it, its window, and its position."""
    windows = _MaskWindows(*_upload(layout.T, soft_masks.device).unbind())
    rows, columns, lines = (layout[:, k] for k in (3, 4, 6))
    # Along the rows first: network rows of source columns.
    which, column, line = _pixels(windows.lines, columns * lines)
    x = (windows.column_table[which] + column).clamp_(max=tables.taps.shape[1] - 1)
    height, width = soft_masks.shape[1:]
    start = (windows.mask * height + windows.above)[which].add_(line).mul_(width)
    wide = _weighted(soft_masks.flatten(), start, x, tables)
    # Then down the columns, each with an empty pixel before it, which keeps its runs to itself.
    which, column, row = _pixels(windows.rows, columns * rows)
    y = windows.row_table[which].add_(row).sub_(1).clamp_(min=0)
    begin = _upload((columns * lines).cumsum() - columns * lines, soft_masks.device) - windows.above
    full = _weighted(wide, begin[which].add_(column * windows.lines[which]), y, tables)
    on = (full > threshold) & (row > 0)
    changed = on ^ torch.cat((on[1:], on.new_zeros(1)))
    position = (windows.x[which] + column).mul_(windows.height[which]).add_(windows.y[which]).add_(row)
    return changed, which, position


def _pixels(rows: Tensor, sizes: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
    """For every pixel of all windows, column by column: its window, and its column and row there.

    ``rows`` (M,) of each window, ``sizes`` (M,) pixels of each.
    """
    device, total = rows.device, int(sizes.sum())
    which = torch.repeat_interleave(_upload(sizes, device), output_size=total)
    within = torch.arange(total, device=device) - _upload(sizes.cumsum() - sizes, device)[which]
    column = within // rows[which]
    return which, column, within - column * rows[which]


def _weighted(values: Tensor, start: Tensor, place: Tensor, tables: _Tables) -> Tensor:
    """Sum over the taps of ``place`` (P,) in the tables, in ``values`` from ``start`` (P,) on."""
    total = torch.zeros((), device=values.device)
    for taps, weights in zip(tables.taps, tables.weights, strict=True):
        total = total + values[start + taps[place]] * weights[place]
    return total


def _download(
    changed: Tensor, which: Tensor, position: Tensor, *, room: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Window and position of each change, in one transfer of ``room`` entries, or more if they do not do."""
    while True:
        places = torch.nonzero_static(changed, size=room, fill_value=-1)[:, 0]
        host = torch.stack((places, which[places], position[places])).cpu().numpy()
        used = int(np.count_nonzero(host[0] >= 0))
        if used < room:
            return host[1, :used], host[2, :used]
        room *= 4


@lru_cache(maxsize=16)
def _tables(geometries: tuple[Geometry, ...], size: tuple[int, int], device: torch.device) -> _Tables:
    axes = [
        (
            resampling(size[0], g.canvas[0], g.resized[0], g.source[0]),
            resampling(size[1], g.canvas[1], g.resized[1], g.source[1]),
        )
        for g in geometries
    ]
    parts = [(axis, length) for both in axes for axis, length in zip(both, size, strict=True)]
    # Of fewer network pixels than taps the last one counts again, with a weight of 0.
    taps = [np.minimum(axis.taps + np.arange(TAPS)[:, None], length - 1) for axis, length in parts]
    weights = [np.pad(axis.weights, ((0, TAPS - len(axis.weights)), (0, 0))) for axis, _ in parts]
    ends = np.cumsum([0, *(len(axis.taps) for axis, _ in parts)]).tolist()
    return _Tables(
        torch.from_numpy(np.concatenate(taps, axis=1)).to(device),
        torch.from_numpy(np.concatenate(weights, axis=1)).to(device),
        axes,
        list(zip(ends[:-1:2], ends[1::2], strict=True)),
    )


def _upload(array: NDArray[np.int64], device: torch.device) -> Tensor:
    """The host does not wait for the device."""
    host = torch.from_numpy(np.ascontiguousarray(array))
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host
