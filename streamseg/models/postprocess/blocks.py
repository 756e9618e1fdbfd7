"""How much is worked on at once, and what crosses between host and device."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCK = {"cpu": 24 << 20, "cuda": 1 << 30}
"""Bytes of masks in one step: on a CPU they stay in its cache, on a GPU each step is a launch."""
_HELD = {"cpu": 192 << 20, "cuda": 4 << 30}
"""Bytes of the soft masks that exist at once; one picture may need more."""


def at_once(device: torch.device, size: int) -> int:
    """How many things of ``size`` bytes make a block; at least 1."""
    return max(1, _BLOCK[device.type] // max(1, size))


def pictures_at_once(device: torch.device, size: int) -> int:
    """How many pictures, whose masks take ``size`` bytes each, have them at the same time; at least 1."""
    return max(1, _HELD[device.type] // max(1, size))


def to_device(array: NDArray[np.int64], device: torch.device) -> Tensor:
    """A copy that no later change of ``array`` reaches; the host does not wait for the device."""
    host = torch.from_numpy(array)
    return host.clone() if device.type == "cpu" else host.pin_memory().to(device, non_blocking=True)


def start_download(tensor: Tensor) -> Tensor:
    """A host tensor that holds ``tensor`` once the device has got there; on a CPU at once."""
    if tensor.device.type == "cpu":
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)


def download(columns: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Equally shaped tensors in one transfer to the host, as float32: whole numbers up to 2^24 stay exact.

    The host waits for the device.
    """
    host = start_download(torch.stack([column.float() for column in columns]))
    wait_for(columns[0].device)
    columns_there: tuple[Tensor, ...] = host.unbind()
    return columns_there


def wait_for(device: torch.device) -> None:
    """Return when the device has done what the current stream was given; the thread sleeps meanwhile."""
    if device.type == "cuda":
        event = torch.cuda.Event(blocking=True)
        event.record()
        event.synchronize()
