"""CUDA streams: upload, network and post-processing of successive batches side by side.

On a CPU a thread takes the place of the network's stream, so that handing over a batch returns at once there,
too; the other streams do nothing.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Semaphore
from typing import TypeVar

import torch
from torch import Tensor

Launched = TypeVar("Launched")

_ON_CPU = 2
"""Batches that a CPU may have at most: one that it computes, and one whose pictures are prepared meanwhile.
More would only grow old, and would have to be waited for when the program is stopped."""


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
        else:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
            self._room = Semaphore(_ON_CPU)

    def launch(self, work: Callable[[], Launched]) -> Future[Launched]:
        """Have the device do ``work`` behind that of the batches before.

        On CUDA it is launched here and now, and what it raises is raised here: only this thread knows which
        batches hold the device's memory. On a CPU it is done in a thread of its own; waits while that has
        two batches.
        """
        if not self._cuda:
            self._room.acquire()
            return self._thread.submit(self._work, work)
        launched: Future[Launched] = Future()
        launched.set_result(work())
        return launched

    def _work(self, work: Callable[[], Launched]) -> Launched:
        try:
            return work()
        finally:
            self._room.release()

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """Run the body on the uploads' stream."""
        if not self._cuda:
            yield
            return
        with torch.cuda.stream(self._upload):
            yield

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
