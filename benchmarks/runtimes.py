"""Speed of bare networks on a CPU, one picture, by turns in eager PyTorch and in ONNX Runtime.

    python benchmarks/runtimes.py [--threads 2] [--rounds 20] NAME=WEIGHTS.safetensors ...

Every network has its own input size and runs in float32. Medians; the first network is the measure. Writes
benchmarks/results/runtimes.json and prints a table.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import onnxruntime
import torch
from machine import describe_machine
from torch import Tensor, nn

from streamseg.models.nets.detector import Detector
from streamseg.models.weights.files import find_weights, load_detector

RESULTS = Path(__file__).resolve().parent / "results"


class Bare(nn.Module):
    """A detector whose output is a plain tuple."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.detector(images)
        return (*output.class_logits, *output.mask_tensors())


def runs(detector: Detector, threads: int) -> dict[str, Callable[[], object]]:
    """One picture through the network in each runtime."""
    canvas = detector.spec.input.canvas
    assert canvas is not None
    picture = torch.randn(1, 3, *canvas)
    network = Bare(detector).eval()
    program = torch.onnx.export(network, (picture,), dynamo=True, verbose=False, opset_version=20)
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)
    feed = {session.get_inputs()[0].name: picture.numpy()}
    eager = Bare(load_copy(detector)).eval().to(memory_format=torch.channels_last)
    last = picture.contiguous(memory_format=torch.channels_last)
    return {
        "eager": lambda: network(picture),
        "eager, channels last": lambda: eager(last),
        "ONNX Runtime": lambda: session.run(None, feed),
    }


def load_copy(detector: Detector) -> Detector:
    copy = Detector(detector.spec).eval()
    copy.load_state_dict(detector.state_dict())
    return copy


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("weights", nargs="+", metavar="NAME=FILE")
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--rounds", type=int, default=20)
    options.add_argument("--out", type=Path, default=RESULTS / "runtimes.json")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    named = dict(entry.split("=", 1) for entry in chosen.weights)
    detectors = {name: load_detector(find_weights(path)) for name, path in named.items()}
    works = {name: runs(detector, chosen.threads) for name, detector in detectors.items()}
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
        name: {way: round(1000 * median(seconds[name, way]), 1) for way in ways}
        for name, ways in works.items()
    }
    report = {"machine": describe_machine(), "threads": chosen.threads, "milliseconds": found}
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    ways = list(next(iter(found.values())))
    print(f"| network, milliseconds | {' | '.join(ways)} | best |\n|---|{'---|' * (len(ways) + 1)}")
    for name, times in found.items():
        print(f"| {name} | {' | '.join(str(times[way]) for way in ways)} | {min(times.values())} |")


if __name__ == "__main__":
    main()
