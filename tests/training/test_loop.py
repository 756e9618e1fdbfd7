"""Training on pictures that the test draws: it learns, and it resumes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from streamseg.errors import ConfigError, UsageError
from streamseg.inference import Segmenter
from streamseg.training.coco import read_coco
from streamseg.training.config import TrainConfig, read_train_config
from streamseg.training.dataset import TrainingStream, collate
from streamseg.training.evaluation import evaluate, format_table
from streamseg.training.loop import learning_rate, train

CANVAS = (64, 96)


def draw_data(folder: Path, *, images: int = 4) -> Path:
    """Bright discs and boxes on dark noise, with exact masks; returns the COCO file."""
    rng = np.random.default_rng(5)
    content: dict = {
        "categories": [{"id": 7, "name": "disc"}, {"id": 9, "name": "box"}],
        "images": [],
        "annotations": [],
    }
    for number in range(images):
        picture = rng.integers(0, 60, size=(*CANVAS, 3), dtype=np.uint8)
        for column, category in ((24, 7), (72, 9)):
            x, y = column + int(rng.integers(-8, 9)), 32 + int(rng.integers(-10, 11))
            mask = np.zeros(CANVAS, dtype=np.uint8)
            if category == 7:
                cv2.circle(mask, (x, y), 14, 1, -1)
            else:
                cv2.rectangle(mask, (x - 13, y - 10), (x + 13, y + 10), 1, -1)
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
        content["images"].append({"id": number, "file_name": name, "height": CANVAS[0], "width": CANVAS[1]})
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def make_config(folder: Path, **schedule: object) -> TrainConfig:
    annotations = folder / "annotations.json"
    if not annotations.exists():
        draw_data(folder)
    levels = [
        {"pyramid": 3, "stride": 8, "grid": 12, "scale": [1, 256]},
    ]
    content = {
        "model": {
            "backbone": "resnet18",
            "backbone_width": 16,
            "fpn_channels": 32,
            "fpn_first": 3,
            "head": {
                "channels": 32,
                "convs": 2,
                "class_convs": 2,
                "shared_tower": True,
                "groups": 8,
                "levels": levels,
            },
            "classes": ["disc", "box"],
            "input": {"canvas": list(CANVAS)},
        },
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
        "imagenet_backbone": False,
        "output": str(folder / "run"),
        "workers": 0,
        "device": "cpu",
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(content))
    return read_train_config(path)


def test_a_few_pictures_are_learned_by_heart(tmp_path: Path) -> None:
    config = make_config(tmp_path, steps=220)
    weights = train(config, progress=False)
    segmenter = Segmenter.load(str(weights), device="cpu", precision="fp32", score=0.0)
    predictions = tmp_path / "predictions.json"
    scores = evaluate(
        segmenter,
        segmenter.spec.classes,
        images=tmp_path,
        annotations=config.data.val,
        predictions=predictions,
        progress=False,
    )
    assert {s.name: s.objects for s in scores} == {"disc": 4, "box": 4}
    assert min(s.values["AP75"] for s in scores) > 0.99, format_table(scores)
    assert min(s.values["AP"] for s in scores) > 0.6, format_table(scores)
    assert {row["category_id"] for row in json.loads(predictions.read_text())} == {7, 9}


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    config = make_config(tmp_path, steps=6, checkpoint_minutes=1e-9)
    whole = torch.load(_checkpoint(config), weights_only=True)
    halted = config.model_copy(update={"output": tmp_path / "halted"})
    with pytest.raises(KeyboardInterrupt):
        _train_and_interrupt(halted, after=3)
    assert torch.load(halted.output / "checkpoint.pt", weights_only=True)["step"] == 3
    train(halted, resume=True, progress=False)
    resumed = torch.load(halted.output / "checkpoint.pt", weights_only=True)
    for name, tensor in whole["average"].items():
        torch.testing.assert_close(resumed["average"][name], tensor, rtol=0, atol=0)


def _checkpoint(config: TrainConfig) -> Path:
    train(config, progress=False)
    return config.output / "checkpoint.pt"


def _train_and_interrupt(config: TrainConfig, *, after: int) -> None:
    """Break off while sample ``after`` * batch + 1 is read, as Ctrl-C would."""
    original = TrainingStream.__getitem__
    first = after * config.schedule.batch

    def breaking(stream: TrainingStream, number: int) -> object:
        if number == first:
            raise KeyboardInterrupt
        return original(stream, number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingStream, "__getitem__", breaking)
        train(config, progress=False)


def test_samples_depend_on_their_number_alone(tmp_path: Path) -> None:
    config = make_config(tmp_path).model_copy(update={"augment": TrainConfig.model_fields["augment"].default})
    images = read_coco(config.data.train, config.data.images, config.model.classes)
    first, second = (collate([TrainingStream(images, config)[n] for n in (3, 1)]) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert not torch.equal(first.images[0], first.images[1])


def test_classes_that_are_not_exhaustively_labelled_are_not_punished(tmp_path: Path) -> None:
    path = draw_data(tmp_path)
    content = json.loads(path.read_text())
    for row in content["images"]:
        row["exhaustive_category_ids"] = [7]
    path.write_text(json.dumps(content))
    config = make_config(tmp_path)
    images = read_coco(config.data.train, config.data.images, config.model.classes)
    (item,) = [TrainingStream(images, config)[0]]
    weights, owners = item.class_weights[0], item.targets[0].owners
    assert (weights[0] == 1).all()
    assert (weights[1][owners < 0] == 0).all()
    assert (weights[1][owners >= 0] == 1).all()


def test_the_learning_rate_warms_up_and_decays(tmp_path: Path) -> None:
    config = make_config(tmp_path, steps=100)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] < rates[5] < max(rates) == pytest.approx(3e-3)
    assert rates[-1] < 0.05 * max(rates)


def test_bad_data_and_configs_are_named(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    config.data.train.write_text("{}")
    with pytest.raises(UsageError, match=r"annotations\.json: not a readable COCO"):
        train(config, progress=False)
    path = tmp_path / "bad.yaml"
    path.write_text("schedule: {steps: 0}")
    with pytest.raises(ConfigError, match=r"schedule\.steps"):
        read_train_config(path)
