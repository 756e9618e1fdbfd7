"""How many images the training loader makes in the time the trainer takes for one.

    python benchmarks/loader.py [--config configs/train_demo.yaml] [--workers 1] [--device auto]

Both run alone, on pictures that the script draws: the loader from decoded images in memory and from
JPEG files, the trainer on one batch again and again. A ratio above 1 means that the trainer never
waits. (On a CPU they share the cores: what the loader takes of them is 1 / (1 + ratio).) Writes
benchmarks/results/loader.json.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from machine import describe_machine

from streamseg.training.config import TrainConfig, read_train_config
from streamseg.training.data.batch import PackedBatch
from streamseg.training.data.dataset import TrainingStream
from streamseg.training.data.image_cache import ImageCache
from streamseg.training.data.loader import make_loader
from streamseg.training.data.splits import Splits, read_splits
from streamseg.training.loop import first_state
from streamseg.training.optimisation import Plan
from streamseg.training.processes import make_fabric
from streamseg.training.step import Stepper

ROOT = Path(__file__).resolve().parent.parent
IMAGES, SIZE, OBJECTS = 48, (480, 640), 8


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config", type=Path, default=ROOT / "configs" / "train_demo.yaml")
    options.add_argument("--workers", type=int, default=1)
    options.add_argument("--device", default="auto")
    options.add_argument("--precision", default="fp32")
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "loader.json")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        config = configure(chosen, Path(folder))
        splits = read_splits(config)
        in_memory = ImageCache()
        in_memory.keep(splits.train, budget=2**40, progress=False)
        rates = {
            "loader, images in memory": loader_rate(config, splits, in_memory, chosen.seconds),
            "loader, images from disk": loader_rate(config, splits, ImageCache(), chosen.seconds),
            "trainer": trainer_rate(config, splits, in_memory, chosen.seconds),
        }
    size = config.model.input
    report = {
        "machine": describe_machine(),
        "configuration": chosen.config.name,
        "input": size.canvas or (size.short_side, size.long_side),
        "images": f"{IMAGES} of {SIZE[1]}x{SIZE[0]} with {OBJECTS} objects each",
        "batch": config.schedule.batch,
        "workers": config.workers,
        "device": chosen.device,
        "precision": config.precision,
        "images_per_second": {name: round(rate, 2) for name, rate in rates.items()},
        "loader_over_trainer": round(rates["loader, images in memory"] / rates["trainer"], 2),
    }
    chosen.out.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def configure(chosen: argparse.Namespace, folder: Path) -> TrainConfig:
    """The configuration with drawn data and without weights to start from."""
    config = read_train_config(chosen.config)
    path = draw(folder, config.model.classes)
    content = config.model_dump(mode="json") | {
        "data": config.data.model_dump(mode="json") | {"images": folder, "train": path, "val": None},
        "initial_weights": None,
        "backbone_weights": "none: random numbers are as fast",
        "workers": chosen.workers,
        "device": chosen.device,
        "precision": chosen.precision,
    }
    return TrainConfig.model_validate(content)


def draw(folder: Path, classes: tuple[str, ...]) -> Path:
    """Ellipses on noise, as JPEG files; returns the COCO file."""
    rng = np.random.default_rng(0)
    images, rows = [], []
    for number in range(IMAGES):
        picture = cv2.resize(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8), SIZE[::-1])
        for _ in range(OBJECTS):
            axes = rng.integers(8, 90, size=2).tolist()
            centre = [int(rng.integers(a, side - a)) for a, side in zip(axes, SIZE[::-1], strict=True)]
            points = cv2.ellipse2Poly(centre, axes, int(rng.integers(180)), 0, 360, 10)
            cv2.fillPoly(picture, [points], rng.integers(0, 256, 3).tolist())
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": number,
                    "category_id": int(rng.integers(len(classes))),
                    "bbox": list(cv2.boundingRect(points)),
                    "segmentation": [points.flatten().tolist()],
                }
            )
        cv2.imwrite(str(folder / f"{number}.jpg"), picture)
        images.append({"id": number, "file_name": f"{number}.jpg", "height": SIZE[0], "width": SIZE[1]})
    categories = [{"id": k, "name": name} for k, name in enumerate(classes)]
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return path


def rate(batches: Callable[[], object], images: int, seconds: float) -> float:
    """Images per second, the first batches left out."""
    for _ in range(3):
        batches()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        batches()
        count += 1
    return count * images / (time.perf_counter() - start)


def loader_rate(config: TrainConfig, splits: Splits, pictures: ImageCache, seconds: float) -> float:
    batches = iter(loader_of(config, splits, pictures))
    return rate(lambda: next(batches), config.schedule.batch, seconds)


def loader_of(config: TrainConfig, splits: Splits, pictures: ImageCache) -> torch.utils.data.DataLoader:
    stream = TrainingStream(splits.train, config, pictures)
    return make_loader(stream, config, first=0, steps=10**6, rank=0, pin=False)


def trainer_rate(config: TrainConfig, splits: Splits, pictures: ImageCache, seconds: float) -> float:
    fabric, plan = make_fabric(config), Plan.of(config.schedule, images=IMAGES)
    fabric.launch()
    stepper = Stepper(fabric, plan, first_state(fabric, config.model_copy(update={"backbone_weights": None})))
    packed: PackedBatch = next(iter(loader_of(config, splits, pictures)))
    parts = [packed.unpack(fabric.device)]
    return rate(lambda: stepper(parts, stop=False), config.schedule.batch, seconds)


if __name__ == "__main__":
    main()
