"""Which runtime computes the network."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from streamseg.errors import ConfigError
from streamseg.inference.devices import choose_precision
from streamseg.inference.runtimes.graphs import GraphedNetwork
from streamseg.inference.runtimes.network import Network
from streamseg.inference.runtimes.of_graph import GRAPH_RUNTIMES, network_of_graph
from streamseg.inference.runtimes.torch_network import TorchNetwork, folded_copy
from streamseg.models.input_size import geometry
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import ModelSpec

logger = logging.getLogger(__name__)

RUNTIMES = ("auto", "torch", *GRAPH_RUNTIMES)
_PICTURES = 2
"""In a batch that is timed: near a single camera's one, and in torch as quick as a full batch by half."""
_TURNS = 3
"""Runs that are timed: half a second for the bundled model and both runtimes."""
_CLEARLY = 0.85
"""Less than this share of torch's time: what is closer could be either at the next start."""
_EXAMPLE = (720, 1280)
"""Height and width of the pictures that are timed, if the model has no canvas."""


def choose_network(detector: Detector, *, device: torch.device, precision: str, runtime: str) -> Network:
    """A detector's network on a device; ``detector`` itself stays as it is.

    ``auto`` measures, on a CPU, torch and ONNX Runtime, if that is installed and the network's graph is at
    hand (it comes with the package for the bundled model). Torch and OpenVINO compute in the quickest
    precision, ONNX Runtime in fp32. A graph is made only where its runtime is named. OpenVINO has to be
    named: of the bundled model, with AMX, it computes one picture in 24 ms for torch's 35, but torch batches
    of 8 in 18 ms a picture for its 21, so which is faster depends on what will come.

    Raises:
        ConfigError: There is no such runtime or precision, or they cannot be together.
    """
    _check(runtime, device=device, precision=precision)
    dtype = choose_precision(precision, device)
    folded = folded_copy(detector)
    if device.type == "cuda":
        return GraphedNetwork(TorchNetwork(folded, device=device, dtype=dtype), device=device)
    named = runtime in GRAPH_RUNTIMES
    other = None
    if named or (runtime == "auto" and precision != "bf16"):
        name = runtime if named else "onnxruntime"
        compute = dtype if name == "openvino" else torch.float32
        other = network_of_graph(name, folded, compute=compute, named=named)
    if named and other is not None:
        return other
    ours = TorchNetwork(copy.deepcopy(folded) if other else folded, device=device, dtype=dtype)
    return ours if other is None else _faster(ours, other, detector.spec)


def _check(runtime: str, *, device: torch.device, precision: str) -> None:
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime {runtime!r}: allowed are {', '.join(RUNTIMES)}")
    if runtime in GRAPH_RUNTIMES and device.type != "cpu":
        raise ConfigError(f"runtime {runtime!r} computes on a CPU only, the device is {device}")
    if runtime == "onnxruntime" and precision not in {"auto", "fp32"}:
        raise ConfigError(f"runtime 'onnxruntime' computes in fp32 only, the precision is {precision!r}")


def _faster(ours: Network, other: Network, spec: ModelSpec) -> Network:
    """The one that takes less time, measured by turns."""
    canvas = geometry(*_EXAMPLE, spec.input).canvas
    noise = torch.randn((_PICTURES, 3, *canvas), generator=torch.Generator().manual_seed(0))
    images = noise.contiguous(memory_format=torch.channels_last)
    torch_ms, onnx_ms = measure_by_turns([ours, other], images)
    chosen = other if onnx_ms < _CLEARLY * torch_ms else ours
    logger.info(
        "the network runs in %s: torch (%s) takes %.1f ms a picture, onnxruntime (fp32) %.1f ms",
        "torch" if chosen is ours else "onnxruntime",
        str(ours.dtype).removeprefix("torch."),
        torch_ms,
        onnx_ms,
    )
    return chosen


@torch.inference_mode()
def measure_by_turns(networks: Sequence[Network], images: Tensor) -> list[float]:
    """Milliseconds of a picture, the least of a few runs of each network, after one that does not count.

    The least: whatever else the machine does only adds to it.
    """
    inputs = [images.to(network.dtype) for network in networks]
    seconds: list[list[float]] = [[] for _ in networks]
    for turn in range(_TURNS + 1):
        for network, own, taken in zip(networks, inputs, seconds, strict=True):
            started = time.perf_counter()
            network(own)
            if turn:
                taken.append(time.perf_counter() - started)
    return [1000 * min(taken) / len(images) for taken in seconds]
