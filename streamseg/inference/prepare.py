"""From pictures to the network's input: resized, normalised, padded.

On a CPU a small pool does all of it, picture by picture, while the network has the batch before. (Not the
decode workers: outputs paint on pictures at source size, so a resized one would need room in the ring beside
each of them, and another for each model.) On CUDA the pool copies pictures into pinned memory, and the device
does the rest for all pictures of one size at once.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from streamseg.masks.upsample import Geometry
from streamseg.models.input_size import resize_picture
from streamseg.models.spec import InputSpec

THREADS = min(4, os.cpu_count() or 1)
"""Resizing and copying release Python's lock; more threads would wait for memory."""

Picture = NDArray[np.uint8]


def check_picture(picture: Picture) -> None:
    """Raise ValueError for anything but a picture, (H, W, 3) uint8 RGB."""
    if picture.ndim != 3 or picture.shape[2] != 3 or not picture.size or picture.dtype != np.uint8:
        raise ValueError(f"a picture is (height, width, 3) uint8 RGB, got {picture.shape} {picture.dtype}")


@dataclass(frozen=True, slots=True, eq=False)
class Preparation:
    """A batch that the pool works on."""

    started: float
    """On the monotonic clock."""
    jobs: Sequence[Future[float]]
    """The pool's; each gives the monotonic time of its end."""
    build: Callable[[], Tensor]
    """After :meth:`wait`: (B, 3, H, W) in channels-last order, 0 beside and below the pictures. Does not wait
    for the device: what that has to do goes to its current stream."""

    def wait(self) -> float:
        """Return when the pool is done: seconds from the start to the end of its last job."""
        return max(job.result() for job in self.jobs) - self.started


class HostPreparer:
    """Prepares batches for a network on the CPU."""

    def __init__(self, spec: InputSpec, *, dtype: torch.dtype) -> None:
        """``dtype`` is that of the network's input; threads start with the first batch."""
        self._table = _words(normal_levels(spec, dtype)[None])
        self._dtype = dtype
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="prepare")

    def start(self, pictures: Sequence[Picture], sizes: Sequence[Geometry]) -> Preparation:
        """B pictures, (H, W, 3) uint8 RGB, and their sizes on one canvas; returns at once."""
        started = time.monotonic()
        images = torch.empty((len(pictures), *sizes[0].canvas, 3), dtype=self._dtype)
        jobs = [
            self._pool.submit(self._fill, row, picture, size.resized)
            for row, picture, size in zip(_words(images), pictures, sizes, strict=True)
        ]
        return Preparation(started, jobs, lambda: images.permute(0, 3, 1, 2))

    def _fill(self, row: NDArray[np.generic], picture: Picture, resized: tuple[int, int]) -> float:
        height, width = resized
        # A table look-up gives the very bits of the formula in half the time, and wakes no threads of torch.
        cv2.LUT(resize_picture(picture, resized), self._table, dst=row[:height, :width])
        row[height:] = 0
        row[:height, width:] = 0
        return time.monotonic()


@dataclass(frozen=True, slots=True, eq=False)
class _OneSize:
    """Pictures of one size, in memory that the device reads from."""

    places: list[int]
    """In the batch."""
    staging: Tensor
    """(n, H, W, 3) uint8."""


class DevicePreparer:
    """Prepares batches on the device; of the host they need a copy into pinned memory."""

    def __init__(self, spec: InputSpec, *, device: torch.device, dtype: torch.dtype) -> None:
        """``dtype`` is that of the network's input; threads start with the first batch."""
        self._mean = torch.tensor(spec.mean, device=device).view(3, 1, 1)
        self._inverse_std = 1 / torch.tensor(spec.std, device=device).view(3, 1, 1)
        self._device, self._dtype = device, dtype
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="prepare")

    def start(self, pictures: Sequence[Picture], sizes: Sequence[Geometry]) -> Preparation:
        """B pictures, (H, W, 3) uint8 RGB, and their sizes on one canvas; returns at once."""
        started = time.monotonic()
        places: dict[tuple[int, int], list[int]] = {}
        for k, size in enumerate(sizes):
            places.setdefault(size.source, []).append(k)
        groups = [
            _OneSize(numbers, self._staging(len(numbers), source)) for source, numbers in places.items()
        ]
        jobs = [
            self._pool.submit(_copy, row, pictures[k])
            for group in groups
            for k, row in zip(group.places, group.staging.numpy(), strict=True)
        ]
        return Preparation(started, jobs, partial(self._build, groups, sizes))

    def _staging(self, count: int, source: tuple[int, int]) -> Tensor:
        return torch.empty((count, *source, 3), dtype=torch.uint8, pin_memory=self._device.type == "cuda")

    def _build(self, groups: Sequence[_OneSize], sizes: Sequence[Geometry]) -> Tensor:
        shape = (len(sizes), *sizes[0].canvas, 3)
        images = torch.zeros(shape, dtype=self._dtype, device=self._device).permute(0, 3, 1, 2)
        for group in groups:
            height, width = sizes[group.places[0]].resized
            pictures = group.staging.to(self._device, non_blocking=True)
            levels = resize_batch(pictures, (height, width))
            normal = ((levels - self._mean) * self._inverse_std).to(self._dtype)
            if len(groups) == 1:
                images[..., :height, :width] = normal
            else:
                for k, one in zip(group.places, normal, strict=True):
                    images[k, :, :height, :width] = one
        return images


def choose_preparer(
    spec: InputSpec, device: torch.device, dtype: torch.dtype
) -> HostPreparer | DevicePreparer:
    """The one for a network's device and data type."""
    if device.type == "cpu":
        return HostPreparer(spec, dtype=dtype)
    return DevicePreparer(spec, device=device, dtype=dtype)


def resize_batch(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, *size) float32 of whole grey levels, 0 to 255, on the pictures' device.

    The same as :func:`streamseg.models.input_size.resize_picture` but for how that rounds: at most one grey
    level apart, in one value of eight (measured on noise and on the demo clip).
    """
    levels = pictures.permute(0, 3, 1, 2).float()
    if tuple(levels.shape[2:]) == size:
        return levels
    return F.interpolate(levels, size, mode="bilinear", align_corners=False).round_()


def normal_levels(spec: InputSpec, dtype: torch.dtype) -> Tensor:
    """(256, 3): what each grey level of red, green and blue is after normalisation."""
    levels = torch.arange(256).view(256, 1)
    return ((levels - torch.tensor(spec.mean)) * (1 / torch.tensor(spec.std))).to(dtype)


def _words(tensor: Tensor) -> NDArray[np.generic]:
    """The same memory for numpy, which knows no bfloat16: half precisions as int16."""
    words: NDArray[np.generic] = (tensor.view(torch.int16) if tensor.itemsize == 2 else tensor).numpy()
    return words


def _copy(target: Picture, picture: Picture) -> float:
    np.copyto(target, picture)
    return time.monotonic()
