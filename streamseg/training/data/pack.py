"""Many tensors as one: how a batch gets from a loader's process to the device.

Every tensor that crosses a process takes a file descriptor, and every one that is copied to a GPU
a call; a batch of 16 images has some 400 of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_ALIGNMENT = 16
"""Bytes: a view of a buffer as another type has to begin at a multiple of that type's size."""


@dataclass(frozen=True, slots=True)
class Packed:
    """Tensors of any types and shapes, one after the other."""

    buffer: Tensor
    """(bytes,) uint8"""
    layout: tuple[tuple[torch.dtype, tuple[int, ...], int], ...]
    """Type, shape and first byte of each."""

    def tensors(self) -> list[Tensor]:
        """The tensors, as views of the buffer."""
        found = []
        for dtype, shape, start in self.layout:
            size = torch.Size(shape).numel() * dtype.itemsize
            found.append(self.buffer[start : start + size].view(dtype).view(shape))
        return found


def pack(tensors: Sequence[Tensor]) -> Packed:
    """Copy tensors of the host into one buffer."""
    layout, end = [], 0
    for tensor in tensors:
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        layout.append((tensor.dtype, tuple(tensor.shape), start))
        end = start + tensor.numel() * tensor.element_size()
    packed = Packed(torch.empty(end, dtype=torch.uint8), tuple(layout))
    for target, tensor in zip(packed.tensors(), tensors, strict=True):
        target.copy_(tensor)
    return packed
