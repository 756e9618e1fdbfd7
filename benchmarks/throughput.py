"""How much of the bare model's speed is left in the whole program.

    python benchmarks/throughput.py [--device auto] [--rounds 5]

Measures by turns, on the demo clip: the bare network, the network with pre- and post-processing, and
the whole program to an overlay video and NDJSON (imports and loading of weights excluded). Writes
medians and their ratios to benchmarks/results/throughput.json.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import torch
from machine import describe_machine

from streamseg import Segmenter
from streamseg.config import parse_config
from streamseg.models.input_size import geometry
from streamseg.runtime.build import build_pipeline

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "samples" / "street.mp4"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--device", default="auto")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "throughput.json")
    chosen = options.parse_args()
    segmenter = Segmenter.load("demo", device=chosen.device)
    frames = read_frames(40)
    stages = {
        "bare network, one picture at a time": lambda: bare_network(segmenter, frames),
        "with pre- and post-processing": lambda: pictures(segmenter, frames),
        "whole program: clip to overlay video and NDJSON": lambda: whole_program(chosen.device),
    }
    for stage in stages.values():
        stage()  # warm-up
    rates: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(chosen.rounds):
        for name, stage in stages.items():
            rates[name].append(stage())
    bare = rates["bare network, one picture at a time"]
    report = {
        "machine": describe_machine(),
        "precision": str(segmenter.dtype).removeprefix("torch."),
        "frames_per_second": {name: round(statistics.median(r), 2) for name, r in rates.items()},
        "ratio_to_bare": {
            name: round(statistics.median(a / b for a, b in zip(r, bare, strict=True)), 3)
            for name, r in rates.items()
        },
        "rounds": chosen.rounds,
    }
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def read_frames(count: int) -> list:
    with av.open(str(CLIP)) as container:
        frames = itertools.islice(container.decode(video=0), count)
        return [frame.to_ndarray(format="rgb24") for frame in frames]


def rate(work: Callable[[], object], frames: int) -> float:
    start = time.perf_counter()
    work()
    return frames / (time.perf_counter() - start)


def bare_network(segmenter: Segmenter, frames: list) -> float:
    height, width = geometry(*frames[0].shape[:2], segmenter.spec.input).canvas
    images = torch.randn(1, 3, height, width, dtype=segmenter.dtype, device=segmenter.device)
    images = images.contiguous(memory_format=torch.channels_last)
    network = segmenter._network

    def work() -> None:
        with torch.inference_mode():
            for _ in frames:
                network(images)
            if segmenter.device.type == "cuda":
                torch.cuda.synchronize()

    return rate(work, len(frames))


def pictures(segmenter: Segmenter, frames: list) -> float:
    return rate(lambda: [segmenter(frame) for frame in frames], len(frames))


def whole_program(device: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        config = parse_config(
            {
                "streams": [{"url": str(CLIP)}],
                "model": {"device": device},
                "outputs": [
                    {"type": "video", "path": f"{folder}/a.mp4"},
                    {"type": "ndjson", "path": f"{folder}/a.ndjson"},
                ],
            },
            where="benchmark",
        )
        pipeline = build_pipeline(config)
        with pipeline:
            pipeline.join()
        return pipeline.stats.frames / pipeline.stats.seconds


if __name__ == "__main__":
    main()
