"""ImageCache that the tests draw, with exact masks, and a small model to learn them."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from streamseg.inference import Segmenter
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import ModelSpec
from streamseg.models.weights.files import save_weights
from streamseg.training.config import TrainConfig, read_train_config
from streamseg.training.evaluation import Segment

CANVAS = (64, 96)


def draw_data(folder: Path, *, images: int = 4, zoom: int = 1) -> Path:
    """Bright discs and boxes on dark noise, with exact masks; returns the COCO file.

    The pictures are ``zoom`` times CANVAS.
    """
    rng = np.random.default_rng(5)
    size = (zoom * CANVAS[0], zoom * CANVAS[1])
    content: dict[str, Any] = {
        "categories": [{"id": 7, "name": "disc"}, {"id": 9, "name": "box"}],
        "images": [],
        "annotations": [],
    }
    for number in range(images):
        picture = rng.integers(0, 60, size=(*size, 3), dtype=np.uint8)
        for column, category in ((24, 7), (72, 9)):
            x, y = (zoom * (at + int(rng.integers(-d, d + 1))) for at, d in ((column, 8), (32, 10)))
            mask = np.zeros(size, dtype=np.uint8)
            if category == 7:
                cv2.circle(mask, (x, y), 14 * zoom, 1, -1)
            else:
                cv2.rectangle(mask, (x - 13 * zoom, y - 10 * zoom), (x + 13 * zoom, y + 10 * zoom), 1, -1)
            picture[mask > 0] = (230, 40, 40) if category == 7 else (40, 60, 230)
            outline = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0][0]
            left, top, width, height = cv2.boundingRect(outline)
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [left, top, width, height],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": [outline.flatten().astype(float).tolist()],
                }
            )
        name = f"{number}.png"
        cv2.imwrite(str(folder / name), picture[..., ::-1])
        content["images"].append({"id": number, "file_name": name, "height": size[0], "width": size[1]})
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def small_model() -> dict[str, Any]:
    """A model for CANVAS: a narrow ResNet-18, one grid."""
    head = {"channels": 32, "convs": 2, "class_convs": 2, "shared_tower": True, "groups": 8}
    return {
        "backbone": "resnet18",
        "backbone_width": 16,
        "fpn_channels": 32,
        "fpn_first": 3,
        "head": head | {"levels": [{"pyramid": 3, "stride": 8, "grid": 12, "scale": [1, 256]}]},
        "classes": ["disc", "box"],
        "input": {"canvas": list(CANVAS)},
    }


def untaught_weights(folder: Path) -> Path:
    """A file of the small model, which has learned nothing and finds nothing."""
    path = folder / "untaught.safetensors"
    save_weights(Detector(ModelSpec.model_validate(small_model())), path, notes={})
    return path


def content_of_config(folder: Path, **schedule: object) -> dict[str, Any]:
    annotations = folder / "annotations.json"
    if not annotations.exists():
        draw_data(folder)
    return {
        "model": small_model(),
        "data": {"images": str(folder), "train": str(annotations), "val": str(annotations)},
        "augment": {"flip": 0, "colour": 0, "copy_paste": 0, "scale": [1, 1]},
        "schedule": {
            "steps": 4,
            "warmup_steps": 10,
            "batch": 4,
            "learning_rate": 3e-3,
            "frozen_stages": 0,
            "ema_decay": 0.95,
        }
        | schedule,
        "output": str(folder / "run"),
        "workers": 0,
        "device": "cpu",
    }


def write_config(folder: Path, content: dict[str, Any]) -> TrainConfig:
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(content))
    return read_train_config(path)


def make_config(folder: Path, **schedule: object) -> TrainConfig:
    """A short run on drawn data in ``folder``; also written to train.yaml there."""
    return write_config(folder, content_of_config(folder, **schedule))


def make_segment(detector: Detector, device: str, precision: str) -> Segment:
    """What the command line gives to the training loop."""
    return Segmenter(detector, name="test", device=device, precision=precision, score=0.0)
