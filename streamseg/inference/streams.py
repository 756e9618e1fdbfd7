"""CUDA streams: upload, network and post-processing of successive batches side by side.

On a CPU every method does nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


class DeviceStreams:
    """One stream each for uploads, for the network, and for post-processing and downloads.

    Tensors that cross from one stream to another are recorded on the second, so that the caching
    allocator does not hand their memory out too early.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cuda = device.type == "cuda"
        if self._cuda:
            self._upload = torch.cuda.Stream(device)
            self._compute = torch.cuda.Stream(device)
            # A batch that is nearly done goes before the network of the next, whose kernels fill the card.
            self._finish = torch.cuda.Stream(device, priority=-1)

    def upload(self, pinned: Tensor) -> Tensor:
        """Copy a pinned tensor to the device without waiting; on a CPU return it as it is."""
        if not self._cuda:
            return pinned
        with torch.cuda.stream(self._upload):
            return pinned.to(self._device, non_blocking=True)

    @contextmanager
    def computing(self, uploaded: Tensor) -> Iterator[None]:
        """Run the body on the network's stream, behind the upload."""
        if not self._cuda:
            yield
            return
        self._compute.wait_stream(self._upload)
        uploaded.record_stream(self._compute)
        with torch.cuda.stream(self._compute):
            yield

    def mark(self) -> torch.cuda.Event | None:
        """An event after all that the network's stream was given so far; None on a CPU.

        Who waits for it sleeps: a thread that spins would take a core from the decoders.
        """
        if not self._cuda:
            return None
        event = torch.cuda.Event(enable_timing=True, blocking=True)
        self._compute.record_event(event)
        return event

    @contextmanager
    def finishing(self, ready: torch.cuda.Event | None, inputs: Sequence[Tensor]) -> Iterator[None]:
        """Run the body on the last stream, behind ``ready``; its copies to the host have arrived after."""
        if not self._cuda or ready is None:
            yield
            return
        self._finish.wait_event(ready)
        for tensor in inputs:
            tensor.record_stream(self._finish)
        with torch.cuda.stream(self._finish):
            yield
        self._finish.record_event(torch.cuda.Event(blocking=True)).synchronize()
