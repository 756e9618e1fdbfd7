"""Speed of bare networks on a CPU, by turns in PyTorch, ONNX Runtime and OpenVINO.

    python benchmarks/runtimes.py [--threads 2] [--rounds 20] [--batch 1] NAME=WEIGHTS.safetensors ...

Every network has its own input size. Milliseconds of a picture, medians. Writes
benchmarks/results/runtimes.json and prints a table.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
from machine import describe_machine

from streamseg.inference.devices import PRECISIONS
from streamseg.inference.runtimes.onnx_network import OnnxRuntimeNetwork
from streamseg.inference.runtimes.openvino_network import OpenVinoNetwork
from streamseg.inference.runtimes.torch_network import TorchNetwork
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.folded import folded_copy
from streamseg.models.onnx.graph import export_graph
from streamseg.models.onnx.graph_files import read_graph
from streamseg.models.weights.files import find_weights, load_detector

RESULTS = Path(__file__).resolve().parent / "results"


def runs(detector: Detector, batch: int) -> dict[str, Callable[[], object]]:
    """A batch through the network in each runtime."""
    folded = folded_copy(detector)
    canvas = detector.spec.input.canvas
    assert canvas is not None
    pictures = torch.randn(batch, 3, *canvas).contiguous(memory_format=torch.channels_last)
    graph = read_graph(folded.spec) or export_graph(folded)
    onnx = OnnxRuntimeNetwork(folded, graph)
    ways: dict[str, Callable[[], object]] = {"ONNX Runtime, fp32": lambda: onnx(pictures)}
    for name in ("fp32", "bf16"):
        dtype = PRECISIONS[name]
        ways[f"OpenVINO, {name}"] = partial(OpenVinoNetwork(folded, graph, compute=dtype), pictures)
        network = TorchNetwork(copy.deepcopy(folded), device=torch.device("cpu"), dtype=dtype)
        ways[f"torch, {name}"] = partial(network, pictures.to(dtype))
    return ways


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("weights", nargs="+", metavar="NAME=FILE")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--out", type=Path, default=RESULTS / "runtimes.json")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    named = dict(entry.split("=", 1) for entry in chosen.weights)
    detectors = {name: load_detector(find_weights(path)) for name, path in named.items()}
    works = {name: runs(detector, chosen.batch) for name, detector in detectors.items()}
    seconds: dict[tuple[str, str], list[float]] = {}
    with torch.inference_mode():
        for turn in range(chosen.rounds + 2):
            for name, ways in works.items():
                for way, work in ways.items():
                    started = time.perf_counter()
                    work()
                    if turn >= 2:
                        seconds.setdefault((name, way), []).append(time.perf_counter() - started)
    found = {
        name: {way: round(1000 * median(seconds[name, way]) / chosen.batch, 1) for way in ways}
        for name, ways in works.items()
    }
    report = {
        "machine": describe_machine(),
        "threads": chosen.threads,
        "batch": chosen.batch,
        "milliseconds": found,
    }
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    ways = list(next(iter(found.values())))
    print(f"| network, milliseconds | {' | '.join(ways)} | best |\n|---|{'---|' * (len(ways) + 1)}")
    for name, times in found.items():
        print(f"| {name} | {' | '.join(str(times[way]) for way in ways)} | {min(times.values())} |")


if __name__ == "__main__":
    main()
