"""From pictures to the network's input."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamseg.masks.upsample import Geometry
from streamseg.models.spec import InputSpec

_MULTIPLE = 32
"""The network halves its input five times."""


def geometry(height: int, width: int, spec: InputSpec) -> Geometry:
    """How a picture of ``height`` x ``width`` is resized and padded for a model."""
    if spec.canvas is not None:
        factor = min(spec.canvas[0] / height, spec.canvas[1] / width)
        resized = _scaled(height, width, factor)
        resized = (min(resized[0], spec.canvas[0]), min(resized[1], spec.canvas[1]))
        return Geometry((height, width), resized, spec.canvas)
    factor = min(spec.long_side / max(height, width), spec.short_side / min(height, width))
    resized = _scaled(height, width, factor)
    canvas = (-(-resized[0] // _MULTIPLE) * _MULTIPLE, -(-resized[1] // _MULTIPLE) * _MULTIPLE)
    return Geometry((height, width), resized, canvas)


def _scaled(height: int, width: int, factor: float) -> tuple[int, int]:
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def resize(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> (*size, 3) uint8, bilinear as the published models were trained with."""
    if pixels.shape[:2] == size:
        return pixels
    resized: NDArray[np.uint8] = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
    return resized


def stack(pictures: Sequence[NDArray[np.uint8]], *, pinned: bool) -> Tensor:
    """B resized pictures -> (B, H, W, 3) uint8, H x W the largest; what they leave free is 0."""
    height = max(p.shape[0] for p in pictures)
    width = max(p.shape[1] for p in pictures)
    batch = torch.zeros((len(pictures), height, width, 3), dtype=torch.uint8, pin_memory=pinned)
    target = batch.numpy()
    for row, picture in zip(target, pictures, strict=True):
        row[: picture.shape[0], : picture.shape[1]] = picture
    return batch


class Normaliser:
    """uint8 pictures on the device to the network's input."""

    def __init__(self, spec: InputSpec, *, device: torch.device, dtype: torch.dtype) -> None:
        self._mean = torch.tensor(spec.mean, device=device)
        self._inverse_std = 1 / torch.tensor(spec.std, device=device)
        self._dtype = dtype

    def __call__(self, pictures: Tensor, sizes: Sequence[tuple[int, int]], canvas: tuple[int, int]) -> Tensor:
        """(B, h, w, 3) uint8 RGB -> (B, 3, H, W) in channels-last order, H x W the canvas.

        ``sizes`` are the pictures' own heights and widths; the padding is 0 after normalisation.
        """
        batch, height, width, _ = pictures.shape
        normal = ((pictures.float() - self._mean) * self._inverse_std).to(self._dtype)
        images = torch.zeros((batch, *canvas, 3), dtype=self._dtype, device=pictures.device)
        if all(size == (height, width) for size in sizes):
            images[:, :height, :width] = normal
        else:
            for k, (h, w) in enumerate(sizes):
                images[k, :h, :w] = normal[k, :h, :w]
        return images.permute(0, 3, 1, 2)
