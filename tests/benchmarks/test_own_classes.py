"""What the benchmark of own classes trains and scores on, and how its result grows."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import own_classes  # noqa: E402

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 4, "name": "motorcycle"}]


def image(number: int, split: str, exhaustive: list[int]) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": f"{number}.jpg",
        "coco_split": split,
        "exhaustive_category_ids": exhaustive,
    }


def source(folder: Path) -> Path:
    """Of every fourth image cars are told, of the next motorcycles, then people, then nothing."""
    for name, first, split in (("train.json", 0, "train2017"), ("val.json", 1000, "val2017")):
        images = [image(first + n, split, [1] if n >= 320 else [1, 3, 4]) for n in range(400)]
        kinds = {0: 3, 1: 4, 2: 1}
        annotations = [
            {"id": row["id"], "image_id": row["id"], "category_id": kinds[row["id"] % 4], "iscrowd": 0}
            for row in images
            if row["id"] % 4 in kinds
        ]
        content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        (folder / name).write_text(json.dumps(content))
    return folder


def test_its_images(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    said = own_classes.make_data(source(tmp_path), tmp_path / "out")
    taught, scored = (
        json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("train", "val")
    )
    assert len(taught["images"]) == len(taught["annotations"]) == own_classes.IMAGES
    assert len(scored["images"]) == 2 * len(scored["annotations"]) == 320
    for content in (taught, scored):
        assert {row["name"] for row in content["categories"]} == set(own_classes.CLASSES)
        assert all({3, 4} <= set(row["exhaustive_category_ids"]) for row in content["images"])
        assert {row["category_id"] for row in content["annotations"]} == {3, 4}
    assert said["val"] == {"images": 320, "car": 80, "motorcycle": 80}
    assert said["train"]["car"] + said["train"]["motorcycle"] == said["train"]["images"] == 100


def test_starts_stand_beside_those_of_the_same_machine_and_data(tmp_path: Path) -> None:
    path, here = tmp_path / "own_classes.json", {"machine": {"cores": 2}, "data": {"train": {"images": 100}}}
    own_classes.write(path, here, "imagenet", {"steps": 1})
    own_classes.write(path, here, "coco", {"steps": 2})
    own_classes.write(path, here, "imagenet", {"steps": 3})
    assert json.loads(path.read_text()) == here | {"starts": {"coco": {"steps": 2}, "imagenet": {"steps": 3}}}
    elsewhere = here | {"machine": {"cores": 16}}
    own_classes.write(path, elsewhere, "coco", {"steps": 4})
    assert json.loads(path.read_text()) == elsewhere | {"starts": {"coco": {"steps": 4}}}
