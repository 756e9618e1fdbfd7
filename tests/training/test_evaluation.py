"""Scores of predictions that the test makes up, on files that lack what they may lack."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from streamseg.cli import main
from streamseg.training.config import TrainConfig
from streamseg.training.data.splits import read_splits
from streamseg.training.evaluation import ClassScore, Stopwatch, evaluate, format_table, means
from streamseg.training.validation import pick_images
from streamseg.types import Instances
from tests.support.drawn import content_of_config, draw_data, untaught_weights, write_config

CLASSES = ("disc", "box")


def by_colour(image: NDArray[np.uint8]) -> Instances:
    """Finds the drawn objects without mistake: discs are red, boxes blue."""
    masks = [image[..., 0] == 230, image[..., 2] == 230]
    boxes = [cv2.boundingRect(mask.astype(np.uint8)) for mask in masks]
    return Instances(
        height=image.shape[0],
        width=image.shape[1],
        class_ids=np.array([0, 1]),
        labels=CLASSES,
        scores=np.array([0.9, 0.8], dtype=np.float32),
        boxes=np.array([(x, y, x + w, y + h) for x, y, w, h in boxes]),
        crops=tuple(m[y : y + h, x : x + w] for m, (x, y, w, h) in zip(masks, boxes, strict=True)),
    )


def scores_of(folder: Path, change: Callable[[dict[str, Any]], object]) -> dict[str, ClassScore]:
    path = draw_data(folder)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    scores = evaluate(by_colour, CLASSES, images=folder, annotations=path, progress=False)
    return {score.name: score for score in scores}


def test_a_perfect_segmenter_is_scored_as_one(tmp_path: Path) -> None:
    scores = scores_of(tmp_path, lambda content: None)
    assert [scores[name].objects for name in CLASSES] == [4, 4]
    assert min(scores[name].values["AP75"] for name in CLASSES) > 0.99


def test_a_file_may_lack_what_training_does_not_need(tmp_path: Path) -> None:
    """``area`` and ``iscrowd``; and pycocotools takes an annotation whose id is 0 for none."""

    def change(content: dict[str, Any]) -> None:
        for row in content["annotations"]:
            del row["area"], row["iscrowd"]
            row["id"] -= 1

    scores = scores_of(tmp_path, change)
    assert min(scores[name].values["AP75"] for name in CLASSES) > 0.99


def test_a_class_counts_on_images_that_label_it_exhaustively(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for row in content["images"]:
            row["exhaustive_category_ids"] = [7, 9] if row["id"] < 2 else [7]
        # The boxes on the others are found, and not annotated.
        content["annotations"] = [
            row for row in content["annotations"] if row["category_id"] == 7 or row["image_id"] < 2
        ]

    scores = scores_of(tmp_path, change)
    assert (scores["disc"].images, scores["box"].images) == (4, 2)
    assert scores["box"].values["AP75"] > 0.99


def test_a_class_that_no_image_labels_exhaustively_is_not_scored(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for row in content["images"]:
            row["exhaustive_category_ids"] = [7]

    scores = scores_of(tmp_path, change)
    assert (scores["box"].images, scores["box"].objects, scores["box"].values["AP"]) == (0, 0, -1)
    table = format_table(list(scores.values()))
    assert "| box | 0 | 0 | - | - | - | - | - | - |" in table
    assert means(list(scores.values()))["AP"] == scores["disc"].values["AP"]


def test_a_stopwatch_says_how_fast_it_was() -> None:
    timed = Stopwatch(by_colour)
    assert timed.speed() == "no images"
    timed(np.zeros((8, 8, 3), dtype=np.uint8))
    assert re.fullmatch(r"[\d.]+ images/s, [\d.]+ ms per image", timed.speed())


def test_eval_tells_the_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--images", str(tmp_path), "--annotations", str(draw_data(tmp_path, images=1))]
    assert main(["eval", *files, "--weights", str(untaught_weights(tmp_path)), "--device", "cpu"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"[\d.]+ images/s, [\d.]+ ms per image on cpu in (float32|bfloat16)", last)


@pytest.mark.parametrize(("most", "expected"), [(None, 10), (3, 3), (20, 10)])
def test_scores_on_the_way_may_take_fewer_images(most: int | None, expected: int, tmp_path: Path) -> None:
    draw_data(tmp_path, images=10)
    content = content_of_config(tmp_path) | {"evaluation": {"images": most}}
    config: TrainConfig = write_config(tmp_path, content)
    picked = pick_images(read_splits(config).val, config)
    assert len({image.id for image in picked}) == len(picked) == expected
