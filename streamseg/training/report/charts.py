"""Images of a run: its curves, and what its weights find."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from streamseg.files import complete_file
from streamseg.overlay.paint import paint
from streamseg.training.data.coco import CocoImage
from streamseg.training.evaluation import Segment
from streamseg.training.report.csv_log import read_csv_log

_TILE = (240, 320)
"""Height and width of an image in the contact sheet."""
_COLUMNS = 4
_SCORE = 0.3
"""Instances below this are not drawn, as in ``streamseg run``."""
_POINTS = 400
"""A curve of losses is smoothed to so many points: single steps hide it."""


def draw_curves(losses: Path, scores: Path) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: losses and learning rate on the left, AP of every class on the right."""
    figure = Figure(figsize=(12, 4.5), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _losses(left, read_csv_log(losses))
    _scores(right, read_csv_log(scores))
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())[..., :3]  # type: ignore[no-untyped-call]
    return pixels.copy()


def _losses(axes: Axes, rows: Sequence[dict[str, str]]) -> None:
    axes.set(title="training", xlabel="step", ylabel="loss", yscale="log")
    width = max(1, len(rows) // _POINTS)
    steps = _means([float(row["step"]) for row in rows], width)
    for column, label in (("mask_loss", "masks"), ("class_loss", "classes")):
        axes.plot(steps, _means([float(row[column]) for row in rows], width), label=label)
    rate = axes.twinx()
    rate.plot(steps, _means([float(row["learning_rate"]) for row in rows], width), color="0.75")
    rate.set_ylabel("learning rate", color="0.5")
    axes.legend(loc="upper right")
    axes.grid(alpha=0.3)


def _means(values: Sequence[float], width: int) -> list[float]:
    return [float(np.mean(values[i : i + width])) for i in range(0, len(values), width)]


def _scores(axes: Axes, rows: Sequence[dict[str, str]]) -> None:
    axes.set(title="validation", xlabel="step", ylabel="mask AP", ylim=(0, 1))
    for column in rows[-1] if rows else ():
        kind, _, name = column.partition(" ")
        points = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
        if kind == "AP" and points:
            colour = "black" if name == "mean" else None  # None: the next of the cycle
            axes.plot(*zip(*points, strict=True), marker="o", label=name, color=colour)
    if axes.lines:
        axes.legend(loc="upper left", fontsize="small", ncols=2)
    axes.grid(alpha=0.3)


def contact_sheet(segment: Segment, images: Sequence[CocoImage], *, most: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: what is found in at most ``most`` of the images, those with objects first."""
    ranked = [i for i in images if i.objects] + [i for i in images if not i.objects]
    places = np.linspace(0, max(0, sum(bool(i.objects) for i in images) - 1), most).astype(int)
    chosen = [ranked[k] for k in dict.fromkeys(places.tolist())]
    tiles = [_tile(_painted(segment, image.read())) for image in chosen]
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * _TILE[0], columns * _TILE[1], 3), 32, dtype=np.uint8)
    for k, tile in enumerate(tiles):
        y, x = (k // columns) * _TILE[0], (k % columns) * _TILE[1]
        sheet[y : y + _TILE[0], x : x + _TILE[1]] = tile
    return sheet


def _painted(segment: Segment, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    found = segment(image)
    return paint(image, found[found.scores >= _SCORE])


def _tile(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) -> (*_TILE, 3): an image fitted into the middle of a tile."""
    height, width = image.shape[:2]
    factor = min(_TILE[0] / height, _TILE[1] / width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    tile = np.full((*_TILE, 3), 32, dtype=np.uint8)
    top, left = (_TILE[0] - size[1]) // 2, (_TILE[1] - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    return tile


def write_png(image: NDArray[np.uint8], path: Path) -> None:
    """Write (H, W, 3) RGB, atomically."""
    done, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    with complete_file(path) as partial:
        partial.write_bytes(encoded.tobytes())
