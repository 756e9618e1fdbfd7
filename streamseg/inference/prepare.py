"""From resized pictures to the network's input: one batch of bytes, then normalised on the device."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamseg.models.spec import InputSpec


def stack(pictures: Sequence[NDArray[np.uint8]], *, pinned: bool) -> Tensor:
    """B resized pictures -> (B, H, W, 3) uint8, H x W the largest; what they leave free is 0."""
    height = max(p.shape[0] for p in pictures)
    width = max(p.shape[1] for p in pictures)
    batch = torch.zeros((len(pictures), height, width, 3), dtype=torch.uint8, pin_memory=pinned)
    target = batch.numpy()
    for row, picture in zip(target, pictures, strict=True):
        row[: picture.shape[0], : picture.shape[1]] = picture
    return batch


class PictureNormaliser:
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
