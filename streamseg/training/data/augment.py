"""Random changes of a training image and its masks, all driven by one numpy generator."""

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg.models.input_size import fitted, resize_picture
from streamseg.training.config import AugmentConfig

_KEPT_PART = 0.2  # an object of which less is left, cut off or covered, is ignored: nobody could recognise it


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and the masks of its n objects, all of one size (H, W). C is the number of classes."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    masks: NDArray[np.uint8]
    """(n, H, W) 0/1."""
    class_ids: NDArray[np.int64]
    """(n,)"""
    also_possible: NDArray[np.bool_]
    """(n, C) the classes, beside its own, that an object may be."""
    ignored: NDArray[np.bool_]
    """(n,) crowds and remains of objects: neither taught nor counted as background."""

    def select(self, keep: NDArray[np.bool_]) -> "Sample":
        """Only the objects marked in ``keep`` (n,)."""
        if keep.all():
            return self
        return replace(
            self,
            masks=self.masks[keep],
            class_ids=self.class_ids[keep],
            also_possible=self.also_possible[keep],
            ignored=self.ignored[keep],
        )


def place_on_canvas(
    sample: Sample,
    canvas: tuple[int, int],
    config: AugmentConfig,
    rng: np.random.Generator,
    *,
    mean: tuple[float, float, float],
) -> Sample:
    """Flip, scale and crop or pad a sample to ``canvas`` (H, W).

    The rest has the colour ``mean`` (RGB, rounded): near 0 once normalised, and inference pads with 0.
    """
    matrix = _placement(sample, canvas, config, rng)
    size = (canvas[1], canvas[0])
    padding = tuple(map(round, mean))
    image = cv2.warpAffine(sample.image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=padding)
    masks = np.zeros((len(sample.masks), *canvas), dtype=np.uint8)
    for target, mask in zip(masks, sample.masks, strict=True):
        _warp_mask(mask, matrix, target)
    scale = abs(matrix[0, 0]) * matrix[1, 1]
    before = sample.masks.sum(axis=(1, 2)) * scale
    placed = replace(sample, image=image, masks=masks)
    return _ignore_remains(placed, before)


def _warp_mask(mask: NDArray[np.uint8], matrix: NDArray[np.float64], target: NDArray[np.uint8]) -> None:
    """Warp a mask into ``target``, all zeros: only where the object is, most are small."""
    x, y, width, height = cv2.boundingRect(mask)
    corners = matrix @ np.array([[x - 1, x + width], [y - 1, y + height], [1, 1]])
    # Half a pixel is rounded away, and the edge pixels reach half a pixel further when enlarged.
    low = np.maximum(np.floor(corners.min(axis=1)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(corners.max(axis=1)).astype(int) + 2, target.shape[::-1])
    if width and (high > low).all():
        size = (int(high[0] - low[0]), int(high[1] - low[1]))
        moved = matrix - np.array([[0, 0, low[0]], [0, 0, low[1]]])
        part = cv2.warpAffine(mask, moved, size, flags=cv2.INTER_NEAREST)
        target[low[1] : high[1], low[0] : high[0]] = part


def _placement(
    sample: Sample, canvas: tuple[int, int], config: AugmentConfig, rng: np.random.Generator
) -> NDArray[np.float64]:
    """2 x 3 affine matrix from image to canvas pixels."""
    height, width = sample.image.shape[:2]
    ratios = (canvas[0] / height, canvas[1] / width)
    low, high = config.scale[0] * min(ratios), config.scale[1] * max(ratios)
    scale = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    focus = _focus(sample, rng)
    offsets = [
        _offset(extent * scale, size, centre * scale, rng)
        for extent, size, centre in zip((width, height), canvas[::-1], focus, strict=True)
    ]
    matrix = np.array([[scale, 0, offsets[0]], [0, scale, offsets[1]]])
    if rng.random() < config.flip:
        matrix[0] = [-scale, 0, canvas[1] - 1 - offsets[0]]
    return matrix


def resize_whole(sample: Sample, *, short: int, long: int, flip: bool) -> Sample:
    """Resize a sample, its ratio kept, so that it just fits ``long`` x ``short``; and mirror it.

    As the published models were trained: bilinear pixels, nearest-neighbour masks.
    """
    height, width = sample.image.shape[:2]
    size = fitted(height, width, long_side=long, short_side=short)
    image = resize_picture(sample.image, size)
    masks = np.zeros((len(sample.masks), *size), dtype=np.uint8)
    for target, mask in zip(masks, sample.masks, strict=True):
        cv2.resize(mask, size[::-1], dst=target, interpolation=cv2.INTER_NEAREST)
    if flip:
        image = cv2.flip(image, 1)
        for mask in masks:
            cv2.flip(mask, 1, dst=mask)
    resized = replace(sample, image=image, masks=masks)
    seen: NDArray[np.bool_] = np.any(masks, axis=(1, 2))
    return resized.select(seen)


def fit(sample: Sample, size: tuple[int, int]) -> Sample:
    """Cut a sample off, or pad it, on the right and below to ``size`` (H, W)."""
    if sample.image.shape[:2] == size:
        return sample
    height, width = (min(a, b) for a, b in zip(size, sample.image.shape[:2], strict=True))
    image = np.zeros((*size, 3), dtype=np.uint8)
    image[:height, :width] = sample.image[:height, :width]
    masks = np.zeros((len(sample.masks), *size), dtype=np.uint8)
    masks[:, :height, :width] = sample.masks[:, :height, :width]
    before = sample.masks.sum(axis=(1, 2), dtype=np.int64)
    return _ignore_remains(replace(sample, image=image, masks=masks), before)


def _focus(sample: Sample, rng: np.random.Generator) -> tuple[float, float]:
    """A point x, y inside the crop: mostly one of an object."""
    height, width = sample.image.shape[:2]
    if len(sample.masks) and rng.random() < 0.8:
        ys, xs = np.nonzero(sample.masks[rng.integers(len(sample.masks))])
        if len(xs):
            k = rng.integers(len(xs))
            return float(xs[k]), float(ys[k])
    return rng.uniform(0, width), rng.uniform(0, height)


def _offset(extent: float, size: int, centre: float, rng: np.random.Generator) -> float:
    """Where ``extent`` pixels begin along a canvas side of ``size``, with ``centre`` on the canvas."""
    if extent <= size:
        return rng.uniform(0, size - extent)
    return float(np.clip(rng.uniform(0.2, 0.8) * size - centre, size - extent, 0))


def copy_paste(
    sample: Sample, other: Sample, rng: np.random.Generator, *, most: int = 5, smallest: int = 400
) -> Sample:
    """Paste up to ``most`` objects of ``other`` (same size) at their place into ``sample``.

    Only objects of at least ``smallest`` pixels are taken. Covered pixels leave the masks below
    (Ghiasi et al. 2021, simple copy-paste).
    """
    usable = ~other.ignored & (other.masks.sum(axis=(1, 2)) >= smallest)
    chosen = np.zeros_like(usable)
    indices = np.nonzero(usable)[0]
    if not len(indices):
        return sample
    chosen[rng.choice(indices, size=min(len(indices), int(rng.integers(1, most + 1))), replace=False)] = True
    pasted = other.select(chosen)
    cover = pasted.masks.any(axis=0)
    # A soft border: the network would otherwise learn the cut instead of the object.
    alpha = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), 0.8)[..., None]
    image = (sample.image * (1 - alpha) + other.image * alpha + 0.5).astype(np.uint8)
    before = sample.masks.sum(axis=(1, 2), dtype=np.int64)
    below = _ignore_remains(replace(sample, image=image, masks=sample.masks * ~cover), before)
    return Sample(
        image=image,
        masks=np.concatenate((below.masks, pasted.masks)),
        class_ids=np.concatenate((below.class_ids, pasted.class_ids)),
        also_possible=np.concatenate((below.also_possible, pasted.also_possible)),
        ignored=np.concatenate((below.ignored, pasted.ignored)),
    )


def _ignore_remains(sample: Sample, before: NDArray[np.floating | np.integer]) -> Sample:
    """Drop objects that vanished; ignore those of which little is left. ``before``: (n,) pixels of each."""
    area = sample.masks.sum(axis=(1, 2), dtype=np.int64)
    remains = area < _KEPT_PART * before
    return replace(sample, ignored=sample.ignored | remains).select(area > 0)


def change_colour(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Brightness, contrast, saturation and tint; now and then grey or blurred, as cameras are."""
    x = image.astype(np.float32)
    grey = x @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    saturation = 0.0 if rng.random() < 0.05 else rng.uniform(0.6, 1.4)
    x = grey[..., None] + (x - grey[..., None]) * saturation
    mean = float(grey.mean())
    x = (x - mean) * rng.uniform(0.65, 1.35) + mean * rng.uniform(0.65, 1.3)
    x *= rng.uniform(0.93, 1.07, size=3).astype(np.float32)
    if rng.random() < 0.15:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.5, 1.3))
    return np.clip(x, 0, 255).astype(np.uint8)
