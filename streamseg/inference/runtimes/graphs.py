"""The network as CUDA graphs: a batch is started by one call instead of some hundred.

A graph repeats recorded kernels on fixed memory, so there is one for every canvas and batch size; a batch of
another size is padded to the next one. Whatever cannot be recorded runs as it is.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from streamseg.inference.runtimes.torch_network import TorchNetwork
from streamseg.models.nets.flat import batch_tensors, with_tensors
from streamseg.models.nets.head import HeadOutput

logger = logging.getLogger(__name__)

SIZES = (1, 2, 4, 8, 16, 32)
"""Batches that get a graph: the network's time is wasted on up to half a batch, never on more."""
_CANVASES = 4
"""So many get graphs: each holds the memory of a batch's output; others run without."""
_WARM_UPS = 3
"""Runs before the recording: cuDNN tries its algorithms in the first, and memory settles."""


def graph_size(count: int, sizes: Sequence[int] = SIZES) -> int | None:
    """The smallest of ``sizes``, which ascend, that holds ``count`` pictures; None if none does."""
    place = bisect_left(sizes, count)
    return sizes[place] if place < len(sizes) else None


def first_pictures(output: HeadOutput, count: int) -> HeadOutput:
    """A copy of the first ``count`` pictures of an output, in memory of its own."""
    return with_tensors(output, [tensor[:count].clone() for tensor in batch_tensors(output)])


@dataclass(frozen=True, slots=True, eq=False)
class _Recorded:
    """A graph with the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    output: HeadOutput


class GraphedNetwork:
    """A network on CUDA that records itself once for each canvas and batch size.

    To be called on one stream, which orders the batches: all graphs share their memory.
    """

    def __init__(self, network: TorchNetwork, *, device: torch.device) -> None:
        self.runtime, self.dtype = network.runtime, network.dtype
        self._network, self._device = network, device
        self._recorded: dict[tuple[int, ...], _Recorded | None] = {}
        self._pool = torch.cuda.graph_pool_handle()
        self._enabled = True

    def __call__(self, images: Tensor) -> HeadOutput:
        """(B, 3, H, W) of ``dtype``, normalised -> logits that no later call changes."""
        recorded = self._graph_for(images) if self._enabled else None
        if recorded is None:
            return self._network(images)
        count = len(images)
        recorded.images[:count].copy_(images)
        recorded.graph.replay()
        return first_pictures(recorded.output, count)

    def _graph_for(self, images: Tensor) -> _Recorded | None:
        size = graph_size(len(images))
        if size is None:
            return None
        shape = (size, *images.shape[1:])
        if shape not in self._recorded:
            canvases = {(h, w) for _, _, h, w in self._recorded}
            if tuple(shape[2:]) not in canvases and len(canvases) == _CANVASES:
                return None
            self._recorded[shape] = self._try_to_record(images, shape)
        return self._recorded[shape]

    def _try_to_record(self, images: Tensor, shape: tuple[int, ...]) -> _Recorded | None:
        try:
            return self._record(images, shape)
        except torch.OutOfMemoryError as error:
            # What has no room for a graph may have room without one; more graphs would take more.
            self._give_up(error)
        except RuntimeError as error:
            self._give_up(error)
        return None

    def _give_up(self, error: RuntimeError) -> None:
        self._enabled = False
        logger.warning("the network runs without CUDA graphs from now on: %s", str(error).split("\n")[0])

    def _record(self, images: Tensor, shape: tuple[int, ...]) -> _Recorded:
        static = torch.zeros(shape, dtype=images.dtype, device=self._device)
        order = torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else None
        if order is not None:
            static = static.contiguous(memory_format=order)
        static[: len(images)].copy_(images)
        stream = torch.cuda.current_stream(self._device)
        graph = torch.cuda.CUDAGraph()
        # Sizes are fixed from here on: it pays to let cuDNN look for the fastest algorithms.
        with torch.backends.cudnn.flags(
            enabled=True,
            benchmark=True,
            deterministic=torch.backends.cudnn.deterministic,
            allow_tf32=torch.backends.cudnn.allow_tf32,
        ):
            for _ in range(_WARM_UPS):
                self._network(static)
            stream.synchronize()
            # Only this thread may do nothing that cannot be recorded: others go on with batches before.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                output = self._network(static)
        return _Recorded(graph, static, output)
