"""Time of the gradients of depthwise convolutions on a CPU: torch's own, and those of this project.

    python benchmarks/depthwise.py [--threads 1] [--rounds 5]

The layers are those of the neck of the bundled weights, for 4 pictures of 352 x 480. Medians of runs
by turns; prints a table and writes benchmarks/results/depthwise.json.
"""

import argparse
import json
import time
from pathlib import Path
from statistics import median

import torch
from machine import describe_machine
from torch import Tensor
from torch.nn import functional as F

from streamseg.models.nets.depthwise import DepthwiseConv2d, freeze_depthwise

RESULTS = Path(__file__).resolve().parent / "results"
LAYERS = {
    "192 channels, 5x5": (192, 5, 1),
    "96 channels, 5x5, stride 2": (96, 5, 2),
    "58 channels, 3x3, stride 2": (58, 3, 2),
}
WAYS = ("torch", "ours", "ours, kernels frozen")


def step(conv: DepthwiseConv2d, x: Tensor, way: str) -> float:
    """Milliseconds of a forward and a backward pass."""
    started = time.perf_counter()
    if way == "torch":
        size = conv.kernel_size[0]
        y = F.conv2d(x, conv.weight, conv.bias, conv.stride, padding=size // 2, groups=conv.groups)
    else:
        y = conv(x)
    torch.autograd.grad(y, [x, *(p for p in conv.parameters() if p.requires_grad)], torch.ones_like(y))
    return 1000 * (time.perf_counter() - started)


def measure(layer: tuple[int, int, int], dtype: torch.dtype, rounds: int) -> dict[str, float]:
    channels, size, stride = layer
    own_format = torch.channels_last if dtype == torch.bfloat16 else torch.contiguous_format
    x = torch.randn(4, channels, 44, 60, dtype=dtype).to(memory_format=own_format).requires_grad_()
    convs = {way: DepthwiseConv2d(channels, kernel_size=size, stride=stride).to(dtype) for way in WAYS}
    freeze_depthwise(convs[WAYS[2]])
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds + 1):
        for way, conv in convs.items():
            times[way].append(step(conv, x, way))
    return {way: round(median(found[1:]), 2) for way, found in times.items()}


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--out", type=Path, default=RESULTS / "depthwise.json")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    found = {
        f"{name}, {str(dtype).removeprefix('torch.')}": measure(layer, dtype, chosen.rounds)
        for name, layer in LAYERS.items()
        for dtype in (torch.float32, torch.bfloat16)
    }
    print(f"| layer, milliseconds | {' | '.join(WAYS)} |\n|---|{'---|' * len(WAYS)}")
    for name, times in found.items():
        print(f"| {name} | {' | '.join(str(times[way]) for way in WAYS)} |")
    report = {"machine": describe_machine(), "threads": chosen.threads, "milliseconds": found}
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
