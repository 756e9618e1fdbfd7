"""Weights of several recipes side by side: accuracy, size and speed.

    python benchmarks/recipes.py --images DIR --annotations FILE.json NAME=WEIGHTS.safetensors ...

The networks are timed by turns on their own input size; the first one is the measure. Writes
benchmarks/results/recipes.json and prints a table.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from machine import describe_machine

from streamseg import Segmenter
from streamseg.models.weights.files import load_detector
from streamseg.training.evaluation import ClassScore, evaluate

RESULTS = Path(__file__).resolve().parent / "results"
CLASSES = ("person", "car", "motorcycle", "bicycle")
ROUNDS = 15


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("weights", nargs="+", metavar="NAME=FILE")
    options.add_argument("--images", type=Path, required=True)
    options.add_argument("--annotations", type=Path, required=True)
    chosen = options.parse_args()
    named = dict(entry.split("=", 1) for entry in chosen.weights)
    segmenters = {name: Segmenter.load(path, score=0.0) for name, path in named.items()}
    report: dict[str, Any] = {"machine": describe_machine(), "annotations": chosen.annotations.name}
    report["recipes"] = {}
    milliseconds = time_networks(segmenters)
    first = next(iter(milliseconds.values()))
    for name, segmenter in segmenters.items():
        scores = evaluate(
            segmenter, segmenter.spec.classes, images=chosen.images, annotations=chosen.annotations
        )
        report["recipes"][name] = describe(segmenter, Path(named[name])) | {
            "network_milliseconds": round(milliseconds[name], 1),
            "network_over_first": round(milliseconds[name] / first, 2),
            **accuracy(scores),
        }
    (RESULTS / "recipes.json").write_text(json.dumps(report, indent=2) + "\n")
    print(table(report["recipes"]))


def describe(segmenter: Segmenter, path: Path) -> dict[str, Any]:
    parameters = sum(p.numel() for p in load_detector(path).parameters())
    return {
        "architecture": segmenter.spec.architecture,
        "backbone": segmenter.spec.backbone,
        "canvas": segmenter.spec.input.canvas,
        "million_parameters": round(parameters / 1e6, 2),
        "megabytes": round(path.stat().st_size / 1e6, 1),
    }


def time_networks(segmenters: dict[str, Segmenter]) -> dict[str, float]:
    """Median milliseconds of a picture."""
    works = {}
    for name, segmenter in segmenters.items():
        canvas = segmenter.spec.input.canvas
        assert canvas is not None
        pictures = torch.randn(1, 3, *canvas, dtype=segmenter.dtype, device=segmenter.device)
        works[name] = (segmenter._network, pictures.contiguous(memory_format=torch.channels_last))
    seconds: dict[str, list[float]] = {name: [] for name in works}
    with torch.inference_mode():
        for turn in range(ROUNDS + 2):
            for name, (network, pictures) in works.items():
                started = time.perf_counter()
                network(pictures)
                if turn >= 2:
                    seconds[name].append(time.perf_counter() - started)
    return {name: 1000 * statistics.median(values) for name, values in seconds.items()}


def accuracy(scores: list[ClassScore]) -> dict[str, Any]:
    of = {score.name: score.values for score in scores}
    classes = {name: {k: round(of[name][k], 4) for k in ("AP", "AP50")} for name in CLASSES}
    return {"classes": classes, "mean_AP": round(statistics.mean(of[name]["AP"] for name in CLASSES), 4)}


def table(recipes: dict[str, Any]) -> str:
    head = ["recipe", *(f"{name} AP / AP50" for name in CLASSES), "mean AP", "network, times the first"]
    rows = [head, ["---"] * len(head)]
    for name, recipe in recipes.items():
        per_class = [
            f"{100 * values['AP']:.1f} / {100 * values['AP50']:.1f}" for values in recipe["classes"].values()
        ]
        rows.append(
            [name, *per_class, f"{100 * recipe['mean_AP']:.1f}", f"{recipe['network_over_first']:.2f}"]
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
