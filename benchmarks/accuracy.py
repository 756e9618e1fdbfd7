"""Mask AP of some weights on a COCO-format file, kept with the machine's data.

    python benchmarks/accuracy.py --images DIR --annotations FILE.json [--weights demo]

Prints the table of `streamseg eval` and writes it to benchmarks/results/accuracy.json.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from machine import describe_machine

from streamseg import Segmenter
from streamseg.training.evaluation import evaluate, format_table

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=Path, required=True)
    options.add_argument("--annotations", type=Path, required=True)
    options.add_argument("--weights", default="demo")
    options.add_argument("--out", type=Path, default=RESULTS / "accuracy.json")
    chosen = options.parse_args()
    segmenter = Segmenter.load(chosen.weights, score=0.0)
    started = time.monotonic()
    scores = evaluate(segmenter, segmenter.spec.classes, images=chosen.images, annotations=chosen.annotations)
    report = {
        "machine": describe_machine(),
        "runtime": segmenter.runtime,
        "weights": chosen.weights,
        "annotations": chosen.annotations.name,
        "seconds": round(time.monotonic() - started, 1),
        "classes": [asdict(score) for score in scores],
        "table": format_table(scores).splitlines(),
    }
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    print(format_table(scores))


if __name__ == "__main__":
    main()
