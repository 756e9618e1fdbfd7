"""What is wrong with the data is told before training starts, all of it at once."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamseg.cli import main
from streamseg.errors import DataError
from streamseg.training.config import TrainConfig
from streamseg.training.data.splits import read_splits
from streamseg.training.loop import train
from tests.support.drawn import CANVAS, content_of_config, draw_data, write_config

Change = Callable[[dict[str, Any]], object]


def spoiled(folder: Path, *changes: Change, **data: object) -> TrainConfig:
    """A configuration whose annotations, of four images with two objects each, are changed."""
    path = draw_data(folder)
    content = json.loads(path.read_text())
    for change in changes:
        change(content)
    path.write_text(json.dumps(content))
    values = content_of_config(folder)
    values["data"] = {"images": str(folder), "train": str(path)} | data
    return write_config(folder, values)


def annotation(place: int, **values: object) -> Change:
    return lambda content: content["annotations"][place].update(values)


def image(place: int, **values: object) -> Change:
    return lambda content: content["images"][place].update(values)


def without(kind: str, place: int, key: str) -> Change:
    return lambda content: content[kind][place].pop(key)


def run_lengths(*counts: object) -> Change:
    return annotation(7, segmentation={"size": list(CANVAS), "counts": list(counts)})


FILL = "annotation 8: its run lengths add up to {}, not 64 x 96 = 6144 pixels"
PROBLEMS: dict[str, tuple[Change, str]] = {
    "missing picture": (image(2, file_name="gone.png"), "image 2: {folder}/gone.png is missing"),
    "other size": (image(1, width=97), "image 1: {folder}/1.png is 96 x 64, the file says 97 x 64"),
    "image twice": (image(3, id=2), "image id 2 is there 2 times"),
    "image without a name": (
        without("images", 3, "file_name"),
        "image 3: object missing required field `file_name`",
    ),
    "annotation twice": (annotation(3, id=1), "annotation id 1 is there 2 times"),
    "unknown image": (annotation(0, image_id=77), "annotation 1: its image 77 is not in the file"),
    "unknown category": (annotation(1, category_id=8), "annotation 2: its category 8 is not in the file"),
    "box of words": (
        annotation(2, bbox=["a", 1, 2, 3]),
        "annotation 3: expected `float`, got `str` in `bbox[0]`",
    ),
    "short box": (
        annotation(2, bbox=[1, 2, 3]),
        "annotation 3: expected `array` of length 4, got 3 in `bbox`",
    ),
    "endless box": (
        annotation(2, bbox=[1, 2, float("inf"), 3]),
        "annotation 3: its box [1, 2, inf, 3] is not finite",
    ),
    "image of another type": (
        lambda content: content["images"].append("4.png"),
        "image number 4: expected `object`, got `str`",
    ),
    "annotation without an id": (without("annotations", 2, "id"), "annotation number 2 has no id"),
    "list that is none": (
        image(1, exhaustive_category_ids=7),
        "image 1: expected `array | null`, got `int` in `exhaustive_category_ids`",
    ),
    "image without height": (image(1, height=0), "image 1: expected `int` >= 1 in `height`"),
    "height of words": (image(1, height="64"), "image 1: expected `int`, got `str` in `height`"),
    "height that is not whole": (image(1, height=63.5), "image 1: expected `int`, got `float` in `height`"),
    "swapped size": (
        image(1, width=64, height=96),
        "image 1: {folder}/1.png is 96 x 64, the file says 64 x 96 (height and width are swapped)",
    ),
    "crowd of words": (
        annotation(2, iscrowd="no"),
        "annotation 3: expected `bool | int`, got `str` in `iscrowd`",
    ),
    "unknown possible category": (
        annotation(1, possible_category_ids=[9, 8]),
        "annotation 2: its category 8 is not in the file",
    ),
    "polygon of words": (
        annotation(6, segmentation=[[1, 1, 5, 5, "x", 3]]),
        "annotation 7: expected `float`, got `str` in `segmentation[0][4]`",
    ),
    "box without area": (annotation(4, bbox=[5, 5, 0, 9]), "annotation 5: its box [5, 5, 0, 9] has no area"),
    "box outside": (
        annotation(5, bbox=[96, 5, 9, 9]),
        "annotation 6: its box [96, 5, 9, 9] lies outside of its image (96 x 64)",
    ),
    "polygon outside": (
        annotation(6, segmentation=[[10, 10, 150, 10, 50, 50]]),
        "annotation 7: its polygon leaves its image (96 x 64) by 54 pixels",
    ),
    "polygon of two points": (
        annotation(6, segmentation=[[1, 1, 5, 5]]),
        "annotation 7: it has a polygon that is not x, y of at least three points",
    ),
    "no mask": (annotation(7, segmentation=[]), "annotation 8: its segmentation is empty"),
    "run lengths of another size": (
        annotation(7, segmentation={"size": [9, 9], "counts": [81]}),
        "annotation 8: its run lengths are of size [9, 9], not [64, 96]",
    ),
    "no such category": (
        lambda content: content["categories"][0].update(name="disk"),
        "no category is called 'disc' (is it 'disk'?); there are disk, box",
    ),
    "no annotations of a class": (
        lambda content: content.update(annotations=content["annotations"][::2]),
        "class 'box' has no annotations",
    ),
    "categories of one name": (
        lambda content: content["categories"].append({"id": 1, "name": "box"}),
        "2 categories are called 'box' (ids 9, 1); rename them, or make them one",
    ),
    "run lengths that are too short": (run_lengths(6000, 9), FILL.format(6009)),
    "run lengths that are too long": (run_lengths(6000, 9, 6000), FILL.format(12009)),
    "no run lengths": (run_lengths(), FILL.format(0)),
    "run lengths below 0": (run_lengths(6150, -6), "annotation 8: its run lengths hold -6"),
    "run lengths of null": (run_lengths(6000, None), "annotation 8: its run lengths hold None, not whole"),
    "run lengths of fractions": (run_lengths(6143.5, 0.5), "annotation 8: its run lengths hold 6143.5, not"),
    "run lengths of words": (run_lengths("6144"), "annotation 8: its run lengths hold '6144', not whole"),
    "run lengths of truth": (run_lengths(6143, True), "annotation 8: its run lengths hold True, not whole"),
    "run lengths of nothing": (
        annotation(7, segmentation={"size": [64, 96], "counts": None}),
        "annotation 8: its run lengths hold None, not whole numbers",
    ),
    "text that ends early": (
        annotation(7, segmentation={"size": [64, 96], "counts": "oP"}),
        "annotation 8: its run lengths cannot be read (run lengths end in the middle of a count)",
    ),
    "text of other letters": (
        annotation(7, segmentation={"size": [64, 96], "counts": "Ünicode"}),
        "annotation 8: its run lengths cannot be read ('ascii' codec can't encode",
    ),
    "text of other signs": (
        annotation(7, segmentation={"size": [64, 96], "counts": "  !!  "}),
        "annotation 8: its run lengths cannot be read (run lengths hold a sign that is none of COCO's)",
    ),
    "text that does not fill the image": (
        annotation(7, segmentation={"size": [64, 96], "counts": "<"}),
        "annotation 8: its run lengths add up to 12, not 64 x 96 = 6144 pixels",
    ),
    "only crowds of a class": (
        lambda content: [row.update(iscrowd=1) for row in content["annotations"][::2]],
        "class 'disc' has no object that is ever taught: 4 marked iscrowd",
    ),
    "no images": (lambda content: content.update(images=[]), "holds no images"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_is_named_with_file_and_id(name: str, tmp_path: Path) -> None:
    change, expected = PROBLEMS[name]
    with pytest.raises(DataError) as caught:
        read_splits(spoiled(tmp_path, change))
    expected = expected.replace("{folder}", str(tmp_path))
    assert f"  {tmp_path}/annotations.json: {expected}" in str(caught.value)


def test_all_problems_are_told_at_once_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("missing picture", "other size", "unknown category", "box without area", "polygon outside")
    spoiled(tmp_path, *(PROBLEMS[name][0] for name in names))
    (tmp_path / "3.png").write_text("no picture")
    assert main(["train", str(tmp_path / "train.yaml")]) == 2
    lines = capsys.readouterr().err.splitlines()
    told = [line for line in lines if "annotations.json: " in line]
    assert len(told) == len(names) + 1
    assert any("3.png is not a readable image" in line for line in told)
    assert f"error: the data has {len(told)} problems" in "\n".join(lines)
    assert not (tmp_path / "run").exists()


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"] *= 10
        for row in content["annotations"]:
            row["bbox"] = [0, 0, 0, 0]

    with pytest.raises(DataError) as caught:
        read_splits(spoiled(tmp_path, spoil))
    lines = str(caught.value).splitlines()
    assert "the data has 90 problems" in lines[0]  # 80 boxes, 8 ids, and so no class has an object
    assert [line.removeprefix(f"  {tmp_path}/annotations.json: ") for line in lines[1:]] == [
        "annotation id 1 is there 10 times",
        "annotation id 2 is there 10 times",
        "annotation id 3 is there 10 times",
        "and 5 more annotation ids that are there again",
        "class 'disc' has no annotations",
        "class 'box' has no annotations",
        "annotation 1: its box [0, 0, 0, 0] has no area",
        "annotation 2: its box [0, 0, 0, 0] has no area",
        "annotation 3: its box [0, 0, 0, 0] has no area",
        "and 77 more boxes without area",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("", "not a readable COCO annotation file"),
        ("{}", "not a readable COCO annotation file (it has no list images, annotations, categories)"),
        ("[]", "not a readable COCO annotation file"),
    ],
)
def test_a_file_that_is_no_annotation_file_is_named(text: str | None, expected: str, tmp_path: Path) -> None:
    config = spoiled(tmp_path)
    config.data.train.unlink() if text is None else config.data.train.write_text(text)
    with pytest.raises(DataError) as caught:
        train(config, progress=False)
    assert f"{tmp_path}/annotations.json: {expected}" in str(caught.value)


def test_both_files_are_looked_at(tmp_path: Path) -> None:
    other = tmp_path / "val.json"
    config = spoiled(tmp_path, annotation(0, bbox=[0, 0, 0, 0]), val=str(other))
    content = json.loads(config.data.train.read_text())
    content["images"][0]["file_name"] = "gone.png"
    other.write_text(json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_splits(config)
    text = str(caught.value)
    assert "annotations.json: annotation 1" in text
    assert "val.json: annotation 1" in text
    assert f"val.json: image 0: {tmp_path}/gone.png is missing" in text


def test_crowds_empty_images_and_other_categories_are_fine(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["categories"].append({"id": 1, "name": "cloud"})
        rows = content["annotations"]
        counts = [CANVAS[0] * CANVAS[1]]
        crowd = {"iscrowd": 1, "segmentation": {"size": list(CANVAS), "counts": counts}}
        rows[0] |= crowd
        rows[1]["category_id"] = 1
        content["annotations"] = [row for row in rows if row["image_id"] != 3]

    config = spoiled(tmp_path, change)
    with caplog.at_level(logging.INFO):
        splits = read_splits(config)
    crowds, others = [record.getMessage() for record in caplog.records]
    assert "1 of 5 objects are never taught: marked iscrowd (disc 1; data.crowds: teach takes them" in crowds
    assert others.endswith("categories that are no class, left out: cloud (1 annotations)")
    assert [len(i.objects) for i in splits.train] == [1, 2, 2, 0]


def test_bad_annotations_can_be_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = [PROBLEMS[n][0] for n in ("unknown image", "unknown category", "box without area", "no mask")]
    config = spoiled(tmp_path, *bad, bad_annotations="skip", val=str(tmp_path / "annotations.json"))
    read_splits(config)
    splits = read_splits(config)
    assert sum(len(i.objects) for i in splits.train) == 4
    assert len(splits.truth["annotations"]) == 4
    assert "4 annotations left out, the first is" in caplog.text


def test_a_missing_picture_cannot_be_skipped(tmp_path: Path) -> None:
    config = spoiled(tmp_path, image(0, file_name="gone.png"), bad_annotations="skip")
    with pytest.raises(DataError, match="is missing"):
        read_splits(config)


def test_a_part_of_one_file_is_held_back(tmp_path: Path) -> None:
    path = draw_data(tmp_path, images=10)
    values = content_of_config(tmp_path)
    values["data"] = {"images": str(tmp_path), "train": str(path), "val_part": 0.2}
    splits = read_splits(write_config(tmp_path, values))
    assert (len(splits.train), len(splits.val)) == (8, 2)
    assert {i.id for i in splits.train}.isdisjoint(i.id for i in splits.val)
    content = json.loads(path.read_text())
    content["images"].reverse()
    path.write_text(json.dumps(content))
    again = read_splits(write_config(tmp_path, values))
    assert {i.id for i in again.val} == {i.id for i in splits.val}


def test_only_crowds_are_nothing_to_train_on(tmp_path: Path) -> None:
    config = spoiled(tmp_path, *(annotation(k, iscrowd=1) for k in range(8)))
    with pytest.raises(DataError) as caught:
        train(config, progress=False)
    assert "class 'box' has no object that is ever taught: 4 marked iscrowd" in str(caught.value)
