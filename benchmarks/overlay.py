"""What painting an overlay costs on one core.

    python benchmarks/overlay.py [--rounds 30]

Paints 10 and 50 instances over pictures of three sizes, with everything on and with single parts on, and
takes the CPU time of the process (OpenCV on one thread). Objects move and their scores change from picture
to picture, as in a video: labels are drawn anew. Writes medians and the slowest tenth to
benchmarks/results/overlay.json.
"""

import argparse
import json
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from machine import describe_machine

from streamseg.config import OverlayOptions
from streamseg.overlay.paint import Painter
from streamseg.types import Frame, Instances

RESULTS = Path(__file__).resolve().parent / "results"
SIZES = {"360p": (640, 360), "1080p": (1920, 1080), "4K": (3840, 2160)}
NOTHING = {"masks": False, "outlines": False, "labels": False, "ids": False}
KINDS = {
    "default": OverlayOptions(),
    "all, with boxes and trails": OverlayOptions(boxes=True, trails=True),
    "masks": OverlayOptions(**NOTHING | {"masks": True}),
    "outlines": OverlayOptions(**NOTHING | {"outlines": True}),
    "labels and ids": OverlayOptions(**NOTHING | {"labels": True, "ids": True}),
    "trails": OverlayOptions(**NOTHING | {"trails": True}),
    "blur of all": OverlayOptions(**NOTHING | {"blur": ("person",)}),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=30)
    chosen = options.parse_args()
    cv2.setNumThreads(1)
    report = {"machine": describe_machine() | {"threads": 1, "opencv": cv2.__version__}, "ms": {}}
    for name, (width, height) in SIZES.items():
        for count in (10, 50):
            frames = [scene(i, count, width, height) for i in range(chosen.rounds + 3)]
            covered = np.mean([sum(c.sum() for c in found.crops) for _, found in frames]) / (width * height)
            kinds = KINDS if name == "1080p" else {"default": KINDS["default"]}
            costs = {kind: measure(options, frames) for kind, options in kinds.items()}
            report["ms"][f"{name}, {count} instances"] = {"masks_share_of_picture": round(covered, 2)} | costs
    (RESULTS / "overlay.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def measure(options: OverlayOptions, frames: list[tuple[Frame, Instances]]) -> dict[str, float]:
    painter = Painter(options)
    costs = []
    for frame, found in frames:
        started = time.process_time_ns()
        painter.paint(frame, found)
        costs.append((time.process_time_ns() - started) / 1e6)
    costs = costs[3:]  # fonts are loaded with the first labels
    return {
        "median": round(float(np.median(costs)), 2),
        "90 % below": round(float(np.quantile(costs, 0.9)), 2),
    }


def scene(step: int, count: int, width: int, height: int) -> tuple[Frame, Instances]:
    """A picture of noise, and people between a twentieth and a third of its height, who move."""
    rng = np.random.default_rng(7)
    heights = rng.uniform(height / 20, height / 3, count).astype(int)
    widths = (heights * rng.uniform(0.35, 0.8, count)).astype(int) + 4
    left = (rng.uniform(0, width - widths) + step * rng.uniform(-3, 3, count)).clip(0, width - widths)
    top = (rng.uniform(0, height - heights)).astype(int)
    boxes = np.stack([left, top, left + widths, top + heights], axis=1).astype(np.int64)
    crops = tuple(figure(x2 - x1, y2 - y1, rng) for x1, y1, x2, y2 in boxes.tolist())
    scores = np.clip(np.linspace(0.99, 0.4, count) + 0.02 * np.sin(step + np.arange(count)), 0, 1)
    instances = Instances(
        height=height,
        width=width,
        class_ids=np.zeros(count, np.int64),
        labels=("person",) * count,
        scores=scores.astype(np.float32),
        boxes=boxes,
        crops=crops,
        ids=tuple(range(1, count + 1)),
    )
    pixels = np.random.default_rng(step).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    pixels = cv2.resize(pixels, (width, height))
    return Frame("bench", 0, step, step, Fraction(1, 25), 0.0, pixels), instances


def figure(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """(height, width) bool: a blob with the wavy edge that masks of networks have."""
    angles = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    waves = sum(rng.uniform(0, 0.12 / k) * np.sin(k * angles + rng.uniform(0, 7)) for k in range(2, 16))
    radius = 0.9 + waves
    points = np.stack([np.cos(angles) * radius * width / 2, np.sin(angles) * radius * height / 2], axis=1)
    points = np.rint(points + np.array([width / 2, height / 2])).astype(np.int32)
    return cv2.fillPoly(np.zeros((height, width), np.uint8), [points], 1).view(bool)


if __name__ == "__main__":
    main()
