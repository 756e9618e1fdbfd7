"""Configurations of training: what they may say, and the published schedules."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamseg.errors import ConfigError
from streamseg.models.nets.decoupled import DecoupledHead
from streamseg.models.nets.detector import Detector
from streamseg.models.weights.zoo import official_models, read_model
from streamseg.training.config import TrainConfig, read_train_config
from streamseg.training.optimisation import Plan, build_optimizer, evaluation_interval, set_learning_rate
from tests.support.drawn import content_of_config, make_config, write_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SCHEDULES = sorted((CONFIGS / "train").glob("*.yaml"))
PUBLISHED = re.compile(r"^#   .*: [0-9.]+$", re.MULTILINE)
COCO_IMAGES = 117_266
"""Images of train2017 with objects."""


def plan_of(config: TrainConfig, *, images: int = 4) -> Plan:
    return Plan.of(config.schedule, images=images)


@pytest.mark.parametrize("path", SCHEDULES, ids=lambda p: p.stem)
def test_a_published_schedule_is_that_of_its_model(path: Path) -> None:
    content, config = yaml.safe_load(path.read_text()), read_train_config(path)
    model = CONFIGS / "train" / content["model"]
    assert config.model == read_model(model)
    assert path.stem in model.read_text(), "the model's file names the configuration"
    published = re.search(r"mask AP ([0-9.]+)", path.read_text())
    assert published is not None
    assert f"{path.stem}: {published[1]}\n" in model.read_text()
    plan = plan_of(config, images=COCO_IMAGES)
    epoch = COCO_IMAGES / 16
    epochs, drops = (12, (8, 11)) if "1x" in path.stem else (36, (27, 33))
    assert plan.steps == pytest.approx(epochs * epoch, abs=1)
    assert plan.milestones == pytest.approx([d * epoch for d in drops], abs=1)
    rates = [plan.learning_rate(s) for s in (500, *plan.milestones)]
    assert rates == pytest.approx([0.01, 0.001, 0.0001])
    assert config.augment.short_sides is None or config.model.input.canvas is None


def test_every_model_with_published_numbers_has_a_schedule() -> None:
    trained = {yaml.safe_load(path.read_text())["model"].split("/")[-1] for path in SCHEDULES}
    published = {p.name for p in official_models().values() if PUBLISHED.search(p.read_text())}
    assert trained == published


def test_a_model_can_be_a_path_or_a_change_of_one(tmp_path: Path) -> None:
    content = content_of_config(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.yaml").write_text(yaml.safe_dump(content["model"]))
    whole = write_config(tmp_path, content)
    assert write_config(tmp_path, content | {"model": "models/small.yaml"}) == whole
    changed = {"base": "models/small.yaml", "classes": ["disc"], "head": {"convs": 3}}
    config = write_config(tmp_path, content | {"model": changed})
    assert config.model.classes == ("disc",)
    assert config.model.head == whole.model.head.model_copy(update={"convs": 3})


def test_keys_can_be_set_beside_the_file(tmp_path: Path) -> None:
    make_config(tmp_path)
    config = read_train_config(tmp_path / "train.yaml", ["schedule.steps=9", "model.head.convs=1"])
    assert (config.schedule.steps, config.model.head.convs) == (9, 1)


def test_the_learning_rate_warms_up_and_decays(tmp_path: Path) -> None:
    plan = plan_of(make_config(tmp_path, steps=100, warmup_ratio=0.1))
    rates = [plan.learning_rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(3e-4)
    assert rates[0] < rates[5] < max(rates) == pytest.approx(3e-3)
    assert rates[-1] < 0.05 * max(rates)


def test_the_learning_rate_falls_at_milestones(tmp_path: Path) -> None:
    config = make_config(tmp_path, steps=50, decay="steps", milestones=[40, 20], warmup_steps=0)
    rates = [plan_of(config).learning_rate(step) for step in (0, 19, 20, 39, 40, 49)]
    assert rates == pytest.approx([3e-3, 3e-3, 3e-4, 3e-4, 3e-5, 3e-5])


def test_what_begins_trained_may_learn_more_slowly(tmp_path: Path) -> None:
    config = make_config(tmp_path, backbone_factor=0.1, start_factor=0.5)
    detector = Detector(config.model)
    optimizer = build_optimizer(detector, config.schedule)
    set_learning_rate(optimizer, 1e-2)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    head = detector.head
    assert isinstance(head, DecoupledHead)
    for part, rate in (
        (detector.backbone, 1e-3),
        (detector.neck, 5e-3),
        (head.class_tower, 5e-3),
        (head.class_output, 5e-3),
        (head.mask_tower, 1e-2),
        (head.mask_outputs_x, 1e-2),
        (head.mask_outputs_y, 1e-2),
    ):
        for parameter in part.parameters():
            assert rates.pop(parameter) == pytest.approx(rate)
    assert not rates


def test_a_length_in_epochs_counts_images(tmp_path: Path) -> None:
    content = content_of_config(tmp_path, epochs=3, decay="steps", milestones=[2])
    del content["schedule"]["steps"]
    config = write_config(tmp_path, content | {"evaluation": {"every_epochs": 0.5}})
    plan = plan_of(config, images=10)
    assert (plan.steps, plan.milestones) == (8, (5,))
    assert evaluation_interval(config.evaluation, config.schedule, images=10) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule.steps": 0}, "schedule.steps"),
        ({"schedule.epochs": 3}, "schedule: Value error, give either steps or epochs"),
        ({"schedule.decay": "steps"}, "milestones belong to decay steps, which needs them"),
        ({"schedule.milestones": [3]}, "milestones belong to decay steps"),
        ({"schedule.optimizer": "adam"}, "schedule.optimizer: Input should be 'adamw' or 'sgd'"),
        ({"schedule.accumulate": 3}, "schedule.batch 4 is not a multiple of devices x accumulate = 3"),
        ({"devices": 8}, "schedule.batch 4 is not a multiple of devices x accumulate = 8"),
        ({"schedule.frozen_stages": 1}, "give backbone_weights or initial_weights, or set it to 0"),
        ({"augment.short_sides": [64]}, "belong to models without input.canvas"),
        ({"evaluation.every_steps": 1, "evaluation.every_epochs": 1}, "give either every_steps or"),
        ({"precision": "int8"}, "precision: Input should be 'fp32', 'bf16' or 'fp16'"),
        ({"device": "tpu"}, "device: String should match pattern"),
        ({"modell": {}}, "unknown key modell"),
        (
            {"data.ambiguous": {"blurred": ["disc", "bus"]}},
            "data.ambiguous.blurred: bus is not among model.classes (disc, box)",
        ),
        (
            {"model.input.canvas": [350, 481]},
            "model.input.canvas [350, 481]: both sides have to be multiples of 32, the nearest is [352, 480]",
        ),
        ({"model.input.canvas": [8, 96]}, "multiples of 32, the nearest is [32, 96]"),
        ({"data.crowds": "train"}, "data.crowds: Input should be 'ignore' or 'teach'"),
        ({"model": "nowhere.yaml"}, "nowhere.yaml: cannot be read"),
        ({"base": "train.yaml"}, "is its own base"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    content = content_of_config(tmp_path)
    for key, value in changes.items():
        *parents, last = key.split(".")
        place = content
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    with pytest.raises(ConfigError) as caught:
        write_config(tmp_path, content)
    assert expected in str(caught.value)
