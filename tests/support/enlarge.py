"""Masks at source resolution, made one by one, every pixel of their boxes: what other ways must equal."""

import numpy as np
from numpy.typing import NDArray

from streamseg.masks.upsample import Geometry, Resampling, resampling


def enlarge(
    soft_masks: NDArray[np.float32], geometry: Geometry, *, threshold: float
) -> tuple[NDArray[np.int64], list[NDArray[np.bool_]]]:
    """(N, h, w) soft masks over the canvas -> (N, 4) boxes and N crops in source pixels.

    A box is tight around its mask (x2, y2 exclusive); an empty mask has a box and crop of size 0.
    """
    rows = resampling(soft_masks.shape[1], geometry.canvas[0], geometry.resized[0], geometry.source[0])
    columns = resampling(soft_masks.shape[2], geometry.canvas[1], geometry.resized[1], geometry.source[1])
    boxes = np.zeros((len(soft_masks), 4), dtype=np.int64)
    crops = []
    for k, soft in enumerate(soft_masks):
        boxes[k], crop = _enlarge_one(soft, rows, columns, threshold=threshold)
        crops.append(crop)
    return boxes, crops


def _enlarge_one(
    soft: NDArray[np.float32], rows: Resampling, columns: Resampling, *, threshold: float
) -> tuple[tuple[int, int, int, int], NDArray[np.bool_]]:
    inside: NDArray[np.bool_] = soft > threshold
    vertical, horizontal = _span(inside, axis=0), _span(inside, axis=1)
    if vertical is None or horizontal is None:
        return (0, 0, 0, 0), np.zeros((0, 0), dtype=np.bool_)
    y0, taps_y, ys = _window(vertical, rows)
    x0, taps_x, xs = _window(horizontal, columns)
    if not len(taps_y) or not len(taps_x):
        return (0, 0, 0, 0), np.zeros((0, 0), dtype=np.bool_)
    start = taps_y[0]
    near = soft[start : taps_y[-1] + len(ys)]
    # take: indexing with arrays is slower; clip: the other modes check every index.
    wide = sum(near.take(taps_x + k, axis=1, mode="clip") * w for k, w in enumerate(xs))
    full = wide.take(taps_y - start, axis=0, mode="clip")
    full *= ys[0][:, None]
    term = np.empty_like(full)
    for k in range(1, len(ys)):
        wide.take(taps_y - start + k, axis=0, out=term, mode="clip")
        term *= ys[k][:, None]
        full += term
    part: NDArray[np.bool_] = full > threshold
    vertical, horizontal = _span(part, axis=0), _span(part, axis=1)
    if vertical is None or horizontal is None:
        return (0, 0, 0, 0), np.zeros((0, 0), dtype=np.bool_)
    box = (x0 + horizontal[0], y0 + vertical[0], x0 + horizontal[1], y0 + vertical[1])
    return box, np.ascontiguousarray(part[slice(*vertical), slice(*horizontal)])


def _span(mask: NDArray[np.bool_], *, axis: int) -> tuple[int, int] | None:
    """First and one past the last index along ``axis`` that holds a True."""
    index = np.flatnonzero(mask.any(axis=1 - axis))
    return (int(index[0]), int(index[-1]) + 1) if len(index) else None


def _window(span: tuple[int, int], axis: Resampling) -> tuple[int, NDArray[np.int64], NDArray[np.float32]]:
    """The first source pixel to make, and of all to make the taps and their weights."""
    start, stop = int(axis.first[span[0]]), int(axis.last[span[1] - 1]) + 1
    return start, axis.taps[start:stop], axis.weights[:, start:stop]
