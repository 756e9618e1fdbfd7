"""Which weights are the best, and the table of scores, when the images that they are scored on change."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from streamseg.training.config import TrainConfig
from streamseg.training.data.batch import tight_boxes
from streamseg.training.data.splits import read_splits
from streamseg.training.loop import train
from streamseg.training.report.csv_log import read_csv_log
from streamseg.training.validation import BEST, MakeSegment
from streamseg.types import Instances
from tests.support.drawn import content_of_config, draw_data, make_segment, write_config


def config_of(folder: Path, *, steps: int, images: int | None, val: Path | None = None) -> TrainConfig:
    content = content_of_config(folder, steps=steps)
    content["evaluation"] = {"every_steps": 1, "images": images, "overlays": 0}
    content["data"] |= {"val": str(val)} if val else {}
    return write_config(folder, content)


def finding(config: TrainConfig, found: Mapping[int, Collection[int]]) -> MakeSegment:
    """Evaluation number n finds all objects of the images whose ids are ``found[n]``, and no others."""
    images = {image.read().tobytes(): image for image in read_splits(config).val}
    turns = iter(range(1, 99))

    def make(*_: object) -> Any:
        turn = next(turns)

        def segment(picture: NDArray[np.uint8]) -> Instances:
            image = images[picture.tobytes()]
            objects = image.objects if image.id in found[turn] else ()
            masks = np.array([o.mask(image.height, image.width) for o in objects], dtype=np.uint8)
            boxes = tight_boxes(masks.reshape(-1, image.height, image.width))
            return Instances(
                height=image.height,
                width=image.width,
                class_ids=np.array([o.class_id for o in objects], dtype=np.int64),
                labels=tuple(config.model.classes[o.class_id] for o in objects),
                scores=np.full(len(objects), 0.9, dtype=np.float32),
                boxes=boxes,
                crops=tuple(
                    m[y1:y2, x1:x2] > 0 for m, (x1, y1, x2, y2) in zip(masks, boxes.tolist(), strict=True)
                ),
            )

        return segment

    return make


def best_step(config: TrainConfig) -> int:
    with safe_open(config.output / BEST, framework="pt") as file:
        return int(json.loads(file.metadata()["notes"])["steps"])


def scores_of(config: TrainConfig) -> list[dict[str, str]]:
    return read_csv_log(config.output / "evaluation.csv")


@pytest.mark.parametrize(
    ("found", "rises", "best"),
    [({1: {0}, 2: {0, 1, 2, 3}}, True, 1), ({1: {0}, 2: {0, 5}}, False, 2)],
    ids=["better on the others", "better on the picked ones"],
)
def test_the_end_counts_by_the_images_that_were_scored_before(
    found: dict[int, set[int]], rises: bool, best: int, tmp_path: Path
) -> None:
    """Of six images the first and the last are picked; all are scored at the end."""
    draw_data(tmp_path, images=6)
    config = config_of(tmp_path, steps=2, images=2)
    train(config, progress=False, make_segment=finding(config, found))
    before, end = (float(row["AP mean"]) for row in scores_of(config))
    assert (end > before) == rises
    assert best_step(config) == best


def test_a_longer_run_compares_with_the_end_of_the_shorter_one(tmp_path: Path) -> None:
    config = config_of(tmp_path, steps=1, images=2)
    train(config, progress=False, make_segment=finding(config, {1: {0, 1}}))
    longer = config_of(tmp_path, steps=2, images=2)
    train(longer, resume=True, progress=False, make_segment=finding(longer, {1: {0, 1, 2}}))
    assert best_step(longer) == 1


@pytest.mark.parametrize("what", ["evaluation.images", "content of data.val"])
def test_on_other_images_the_best_weights_are_found_anew(
    what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(tmp_path, steps=1, images=2)
    train(config, progress=False, make_segment=finding(config, {1: {0, 3}}))
    if what == "evaluation.images":
        other = config_of(tmp_path, steps=2, images=3)
    else:
        other = config_of(tmp_path, steps=2, images=2, val=without(tmp_path, image=3))
    train(other, resume=True, progress=False, make_segment=finding(other, {1: {0}}))
    assert best_step(other) == 2
    said = f"{what} changed: which weights are the best is found anew"
    assert [r.getMessage() for r in caplog.records if "best" in r.getMessage()] == [said]


def without(folder: Path, **left_out: object) -> Path:
    """A COCO file that lacks an image, or the objects of a category."""
    content = json.loads(draw_data(folder).read_text())
    image, category = left_out.get("image"), left_out.get("category")
    content["images"] = [row for row in content["images"] if row["id"] != image]
    content["categories"] = [row for row in content["categories"] if row["name"] != category]
    kept = {row["id"] for row in content["categories"]}
    content["annotations"] = [
        row for row in content["annotations"] if row["image_id"] != image and row["category_id"] in kept
    ]
    path = folder / "val.json"
    path.write_text(json.dumps(content))
    return path


def test_a_run_goes_on_with_a_class_more_to_score(tmp_path: Path) -> None:
    config = config_of(tmp_path, steps=2, images=None, val=without(tmp_path, category="box"))
    train(config, progress=False, make_segment=make_segment)
    assert {row["AP box"] for row in scores_of(config)} == {""}
    full = config_of(tmp_path, steps=4, images=None)
    assert train(full, resume=True, progress=False, make_segment=make_segment).steps == 4
    rows = scores_of(full)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert [bool(row["AP box"]) for row in rows] == [False, False, True, True]
    assert all(row["AP disc"] for row in rows)


def test_a_table_with_fewer_columns_is_filled_up(tmp_path: Path) -> None:
    """As runs left it that knew the classes of their first COCO file only."""
    config = config_of(tmp_path, steps=2, images=None)
    train(config, progress=False, make_segment=make_segment)
    table = config.output / "evaluation.csv"
    lines = [line.rsplit(",", 3)[0] for line in table.read_text().splitlines()]
    assert "AP75 box" not in lines[0]
    table.write_text("\n".join([*lines, ""]))
    longer = config_of(tmp_path, steps=3, images=None)
    train(longer, resume=True, progress=False, make_segment=make_segment)
    assert [bool(row["AP75 box"]) for row in scores_of(longer)] == [False, False, True]
