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
from streamseg.inference.runtimes.torch_network import TorchNetwork
from streamseg.models.input_size import geometry
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.folded import folded_copy
from streamseg.models.onnx.graph_files import graph_key
from streamseg.models.spec import ModelSpec

logger = logging.getLogger(__name__)

RUNTIMES = ("auto", "torch", *GRAPH_RUNTIMES)
_PICTURES = 2
"""In a batch that is timed: near a single camera's one, and in torch as quick as a full batch by half."""
_TURNS = 3
"""Runs that are timed: half a second for the bundled model and three runtimes."""
_CLEARLY = 0.85
"""Less than this share of torch's time: what is closer could be either at the next start."""
_EXAMPLE = (720, 1280)
"""Height and width of the pictures that are timed, if the model has no canvas."""
FOUND_FASTEST: dict[tuple[str, str, int], str] = {}
"""What ``auto`` has found in this process, by network, precision and threads. To build the bundled model's
three networks and measure them takes 3 s; a second segmenter has torch's in 0.1 s, OpenVINO's in 1.4 s."""


def choose_network(detector: Detector, *, device: torch.device, precision: str, runtime: str) -> Network:
    """A detector's network on a device; ``detector`` itself stays as it is.

    ``auto`` measures, on a CPU, torch and every other runtime that is installed, if the network's graph is at
    hand (it comes with the package for the bundled model). Torch and OpenVINO compute in the quickest
    precision, ONNX Runtime in fp32. A graph is made only where its runtime is named. What was measured once
    holds for the process.

    Raises:
        ConfigError: There is no such runtime or precision, or they cannot be together.
    """
    _check(runtime, device=device, precision=precision)
    dtype = choose_precision(precision, device)
    folded = folded_copy(detector)
    if device.type == "cuda":
        return GraphedNetwork(TorchNetwork(folded, device=device, dtype=dtype), device=device)
    case = (graph_key(detector.spec), precision, torch.get_num_threads())
    if runtime == "auto":
        runtime = FOUND_FASTEST.get(case, runtime)
    others = _of_graph(folded, runtime=runtime, precision=precision, dtype=dtype)
    if others and runtime != "auto":
        return others[0]
    ours = TorchNetwork(copy.deepcopy(folded) if others else folded, device=device, dtype=dtype)
    if not others:
        return ours
    chosen = _fastest([ours, *others], detector.spec)
    FOUND_FASTEST[case] = chosen.runtime.split()[0]
    return chosen


def _check(runtime: str, *, device: torch.device, precision: str) -> None:
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime {runtime!r}: allowed are {', '.join(RUNTIMES)}")
    if runtime in GRAPH_RUNTIMES and device.type != "cpu":
        raise ConfigError(f"runtime {runtime!r} computes on a CPU only, the device is {device}")
    if runtime == "onnxruntime" and precision not in {"auto", "fp32"}:
        raise ConfigError(f"runtime 'onnxruntime' computes in fp32 only, the precision is {precision!r}")


def _of_graph(folded: Detector, *, runtime: str, precision: str, dtype: torch.dtype) -> list[Network]:
    """The network in the runtimes beside torch that were asked for and can be had."""
    found: list[Network] = []
    for name in GRAPH_RUNTIMES:
        if runtime not in {name, "auto"} or (name == "onnxruntime" and precision == "bf16"):
            continue
        compute = torch.float32 if name == "onnxruntime" else dtype
        network = network_of_graph(name, folded, compute=compute, named=runtime == name)
        if network is not None:
            found.append(network)
    return found


def _fastest(networks: Sequence[Network], spec: ModelSpec) -> Network:
    """The one that takes the least time, measured by turns; the first unless another is clearly faster."""
    canvas = geometry(*_EXAMPLE, spec.input).canvas
    noise = torch.randn((_PICTURES, 3, *canvas), generator=torch.Generator().manual_seed(0))
    images = noise.contiguous(memory_format=torch.channels_last)
    took = measure_by_turns(networks, images)
    best = min(range(len(took)), key=took.__getitem__)
    chosen = networks[best if took[best] < _CLEARLY * took[0] else 0]
    figures = ", ".join(f"{each.runtime} {ms:.1f} ms" for each, ms in zip(networks, took, strict=True))
    logger.info("the network runs in %s; of a picture take: %s", chosen.runtime, figures)
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
