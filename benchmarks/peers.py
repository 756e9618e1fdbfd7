"""Side by side with other programs, in one run, by turns.

    pip install -r benchmarks/peers.txt
    python benchmarks/peers.py [--rounds 3]

1. The demo clip, four times in a row, to an overlay video: Ultralytics' smallest segmenter (yolo11n-seg at
   640, weights at random, so that nothing is downloaded: it finds hardly anything, and has next to no masks
   to enlarge, paint and encode) predicts, plots and writes; streamseg finds, tracks, and writes the overlay
   and NDJSON.
2. Painting 10 and 50 objects on a picture of 1920x1080 by supervision, Ultralytics and streamseg.

What is not installed is left out and named. Wall time and CPU time, imports and loading left out. Writes
benchmarks/results/peers.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from machine import describe_machine
from overlay import scene
from throughput import CLIP, ROOT, Rate, program, rate, repeated, whole_program

from streamseg import Segmenter
from streamseg.config import OverlayOptions
from streamseg.overlay.paint import Painter
from streamseg.types import Frame, Instances

if TYPE_CHECKING:
    import supervision
    from ultralytics import YOLO
    from ultralytics.engine.results import Results

LEFT_OUT = {
    "mmdetection's SOLO family": "mmdet needs mmcv, which has no wheel for this Python and torch",
    "roboflow's InferencePipeline": "inference wants other versions of av, numpy and OpenCV than streamseg, "
    "so the two cannot run in one process by turns",
}
"""What would be worth comparing with, and why it is not."""
PEER = "ultralytics yolo11n-seg 640"
Scene = tuple[Frame, Instances]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "peers.json")
    chosen = options.parse_args()
    report = {
        "machine": describe_machine() | {"torch_threads": torch.get_num_threads()},
        "peers": {name: installed(name) or "not installed" for name in ("ultralytics", "supervision")},
        "left_out": LEFT_OUT,
        "runtime": Segmenter.load("demo", device="cpu").runtime,
        "clip_to_video": clip_to_video(chosen.rounds),
        "painting_1080p_ms": {f"{count} objects": painting(count) for count in (10, 50)},
        "rounds": chosen.rounds,
    }
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def installed(name: str) -> str | None:
    """The version of a package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def clip_to_video(rounds: int) -> dict[str, dict[str, float]]:
    """Frames per second of wall time and per CPU second, medians, and their ratios to the peer's."""
    with tempfile.TemporaryDirectory() as folder:
        clip = repeated(CLIP, Path(folder) / "clip.mp4")
        ours = partial(program, device="cpu", runtime="auto", clip=clip)
        programs: dict[str, Callable[[], Rate]] = {"streamseg demo": lambda: whole_program(ours, video=True)}
        if installed("ultralytics"):
            from ultralytics import YOLO  # noqa: PLC0415  may be missing

            model = YOLO("yolo11n-seg.yaml")
            programs = {PEER: lambda: rate(lambda: ultralytics_program(model, clip))} | programs
        rates: dict[str, list[Rate]] = {name: [] for name in programs}
        for number in range(rounds + 1):
            for name, run in programs.items():
                measured = run()
                if number:  # the first round warms up
                    rates[name].append(measured)
    wall, cpu = ({name: [r[k] for r in measured] for name, measured in rates.items()} for k in (0, 1))
    return {
        name: {
            "frames_per_second": round(statistics.median(wall[name]), 2),
            "frames_per_cpu_second": round(statistics.median(cpu[name]), 2),
        }
        | (
            {
                "ratio": round(ratio(wall[name], wall[PEER]), 2),
                "cpu_ratio": round(ratio(cpu[name], cpu[PEER]), 2),
            }
            if PEER in programs
            else {}
        )
        for name in programs
    }


def ratio(mine: list[float], others: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, others, strict=True))


def ultralytics_program(model: YOLO, clip: Path) -> int:
    """Predict, plot and write every frame, as its documentation shows; returns their number."""
    with tempfile.TemporaryDirectory() as folder:
        frames = 0
        writer = None
        for result in model.predict(str(clip), imgsz=640, device="cpu", stream=True, verbose=False):
            painted = result.plot()
            if writer is None:
                size = painted.shape[1], painted.shape[0]
                writer = cv2.VideoWriter(f"{folder}/a.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 25, size)
            writer.write(painted)
            frames += 1
        assert writer is not None
        writer.release()
        return frames


def painting(count: int) -> dict[str, float]:
    """Median milliseconds of one picture; masks, outlines or boxes, and labels, as each program paints."""
    scenes = [scene(number, count, 1920, 1080) for number in range(9)]
    names = {0: "person"}
    painter = Painter(OverlayOptions())
    painters = {"streamseg": lambda s: painter.paint(*s)}
    inputs = {}
    if installed("ultralytics"):
        painters["ultralytics"] = lambda s: full_results(s, names).plot()
    if installed("supervision"):
        painters["supervision"] = supervision_painter()
        inputs["supervision"] = [(s, detections(s)) for s in scenes]
    times = {}
    for name, paint in painters.items():
        costs = []
        for one in inputs.get(name, scenes):
            start = time.perf_counter()
            paint(one)
            costs.append(1000 * (time.perf_counter() - start))
        times[name] = round(statistics.median(costs[2:]), 2)
    return times


def full_results(one: Scene, names: dict[int, str]) -> Results:
    """What Ultralytics' model hands to its painter: masks of the whole picture."""
    from ultralytics.engine.results import Results  # noqa: PLC0415  may be missing

    frame, found = one
    boxes = np.column_stack([found.boxes, found.scores, found.class_ids]).astype(np.float32)
    masks = torch.from_numpy(found.masks().astype(np.float32))
    return Results(frame.pixels[..., ::-1].copy(), "", names, boxes=torch.from_numpy(boxes), masks=masks)


def detections(one: Scene) -> supervision.Detections:
    import supervision  # noqa: PLC0415  may be missing

    _, found = one
    return supervision.Detections(
        xyxy=found.boxes.astype(np.float32),
        mask=found.masks(),
        confidence=found.scores,
        class_id=found.class_ids,
    )


def supervision_painter() -> Callable[[tuple[Scene, supervision.Detections]], object]:
    import supervision  # noqa: PLC0415  may be missing

    masks, labels = supervision.MaskAnnotator(), supervision.LabelAnnotator()

    def paint(one: tuple[Scene, supervision.Detections]) -> object:
        (frame, _), found = one
        picture = masks.annotate(frame.pixels.copy(), found)
        return labels.annotate(picture, found, labels=["person"] * len(found))

    return paint


if __name__ == "__main__":
    main()
