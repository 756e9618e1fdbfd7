"""What a training never learns from is counted and told; nothing left is refused."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamseg.cli import main
from streamseg.errors import DataError, UsageError
from streamseg.training.config import read_train_config
from streamseg.training.data.splits import read_splits
from streamseg.training.data.taught import Sizes
from streamseg.training.evaluation import evaluate
from tests.support.drawn import content_of_config, draw_data, make_config, untaught_weights, write_config
from tests.support.program import ROOT
from tests.training.test_check import PROBLEMS, spoiled
from tests.training.test_evaluation import CLASSES, by_colour

Values = dict[str, Any]
SHIPPED = sorted([*ROOT.glob("configs/train_*.yaml"), *ROOT.glob("configs/train/*.yaml")])


def values_of(folder: Path, **data: object) -> Values:
    values = content_of_config(folder)
    values["data"] = {"images": str(folder), "train": str(folder / "annotations.json")} | data
    return values


def change_annotations(folder: Path, change: Callable[[Values], object]) -> None:
    path = draw_data(folder)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_objects_that_are_too_small_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = values_of(tmp_path, min_size=25)  # boxes are 27 x 21, discs 29 x 29
    with pytest.raises(DataError, match="class 'box' has no object that is ever taught: 4 too small on the"):
        read_splits(write_config(tmp_path, values))
    values["model"]["classes"] = ["disc"]
    read_splits(write_config(tmp_path, values))
    assert "never taught" not in caplog.text
    values["augment"]["scale"] = [1, 2]  # twice as large now and then
    values["model"]["classes"] = ["disc", "box"]
    read_splits(write_config(tmp_path, values))
    assert "never taught" not in caplog.text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_configurations_that_come_with_it_take_objects_of_all_sizes(path: Path) -> None:
    config = read_train_config(path)
    canvas = config.model.input.canvas or (config.model.input.short_side, config.model.input.long_side)
    ranges = [level.scale for level in config.model.head.levels]
    for side in range(math.ceil(config.data.min_size), math.isqrt(math.prod(canvas)) + 2):
        assert any(low <= side <= high for low, high in ranges), side


def test_some_that_are_too_small_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def shrink(content: Values) -> None:
        for row in content["annotations"][:3]:
            row["segmentation"] = [[10, 10, 14, 10, 14, 14, 10, 14]]

    change_annotations(tmp_path, shrink)
    read_splits(write_config(tmp_path, values_of(tmp_path)))
    assert "3 of 8 objects are never taught: too small on the canvas at any scale" in caplog.text
    assert "(disc 2, box 1)" in caplog.text


def test_masks_without_a_pixel_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def flatten(content: Values) -> None:
        content["annotations"][0]["segmentation"] = [[10, 10, 30, 10, 20, 10]]
        content["annotations"][3]["segmentation"] = {"size": [64, 96], "counts": [64 * 96]}

    change_annotations(tmp_path, flatten)
    read_splits(write_config(tmp_path, values_of(tmp_path)))
    assert "2 of 8 objects are never taught: without a pixel in the mask (disc 1, box 1)" in caplog.text


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ([1, 20], "too small on the canvas"),
        ([60, 256], "of a size on the canvas that no level of the head takes"),
    ],
)
def test_sizes_that_no_level_takes_are_told(scale: list[int], expected: str, tmp_path: Path) -> None:
    values = values_of(tmp_path)
    values["model"]["head"]["levels"][0]["scale"] = scale
    with pytest.raises(DataError) as caught:
        read_splits(write_config(tmp_path, values))
    assert "class 'disc' has no object that is ever taught: 4 " in str(caught.value)


def test_without_a_canvas_the_largest_short_side_counts(tmp_path: Path) -> None:
    values = values_of(tmp_path)
    values["model"]["input"] = {"short_side": 64, "long_side": 2000}
    values["augment"] = {"short_sides": [32, 64, 128]}
    sizes = Sizes(write_config(tmp_path, values))
    assert sizes.why_never(5.9, 64, 96) is not None
    assert sizes.why_never(6.1, 64, 96) is None
    assert sizes.why_never(700, 64, 96) is not None


def test_the_only_image_is_not_held_back_in_silence(tmp_path: Path) -> None:
    draw_data(tmp_path, images=1)
    with pytest.raises(
        UsageError, match=r"data\.val_part 0\.1: 1 of 1 images of .* are held back to score on"
    ):
        read_splits(write_config(tmp_path, values_of(tmp_path, val_part=0.1)))


def test_the_only_image_with_objects_is_not_held_back_in_silence(tmp_path: Path) -> None:
    whole = {i.id for i in read_splits(write_config(tmp_path, values_of(tmp_path, val_part=0.25))).val}

    def keep(content: Values) -> None:
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] in whole]

    change_annotations(tmp_path, keep)
    with pytest.raises(UsageError, match=r"data\.val_part 0\.25: 1 of 4 images of .*no object is left"):
        read_splits(write_config(tmp_path, values_of(tmp_path, val_part=0.25)))


def test_a_class_that_is_held_back_whole_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    held = {i.id for i in read_splits(write_config(tmp_path, values_of(tmp_path, val_part=0.25))).val}

    def keep(content: Values) -> None:
        rows = content["annotations"]
        content["annotations"] = [r for r in rows if r["category_id"] == 7 or r["image_id"] in held]

    change_annotations(tmp_path, keep)
    read_splits(write_config(tmp_path, values_of(tmp_path, val_part=0.25)))
    assert "holds back every image with an object of class 'box': it is not taught" in caplog.text


def with_names(folder: Path, *names: str) -> Path:
    """A validation file whose categories have other names."""
    content = json.loads((folder / "annotations.json").read_text())
    for row, name in zip(content["categories"], names, strict=True):
        row["name"] = name
    path = folder / "val.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("Disc", "Box"), "no category is called 'disc' (is it 'Disc'?); there are Disc, Box"),
        (("disc", "BOX "), "no category is called 'box' (is it 'BOX '?); there are disc, BOX "),
        (("disc", "b-o-x"), "no category is called 'box' (is it 'b-o-x'?)"),
        (("car", "dog"), "holds none of the classes disc, box; there are car, dog"),
    ],
)
def test_other_spellings_in_a_file_to_score_on_are_refused(
    names: tuple[str, str], expected: str, tmp_path: Path
) -> None:
    values = values_of(tmp_path)
    path = with_names(tmp_path, *names)
    values["data"]["val"] = str(path)
    with pytest.raises(DataError) as training:
        read_splits(write_config(tmp_path, values))
    with pytest.raises(DataError) as scoring:
        evaluate(by_colour, CLASSES, images=tmp_path, annotations=path, progress=False)
    for caught in (training, scoring):
        assert f"val.json: {expected.strip()}" in str(caught.value)


def test_a_class_that_a_file_to_score_on_lacks_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = values_of(tmp_path)
    path = with_names(tmp_path, "disc", "boxes")
    values["data"]["val"] = str(path)
    read_splits(write_config(tmp_path, values))
    told = "val.json: class 'box' is not scored: no category is called 'box' (is it 'boxes'?)"
    assert told in caplog.text
    caplog.clear()
    evaluate(by_colour, CLASSES, images=tmp_path, annotations=path, progress=False)
    assert told in caplog.text


TRAINING_ONLY = {"no such category", "no annotations of a class", "only crowds of a class"}
"""A file may lack some classes when it is only scored on."""


@pytest.mark.parametrize("name", sorted(PROBLEMS.keys() - TRAINING_ONLY))
def test_what_training_refuses_eval_refuses_too(name: str, tmp_path: Path) -> None:
    change, expected = PROBLEMS[name]
    config = spoiled(tmp_path, change)
    with pytest.raises(DataError) as caught:
        evaluate(by_colour, CLASSES, images=tmp_path, annotations=config.data.train, progress=False)
    assert expected.replace("{folder}", str(tmp_path)) in str(caught.value)


@pytest.mark.parametrize("name", sorted(TRAINING_ONLY))
def test_what_only_training_needs_is_scored_without_it(name: str, tmp_path: Path) -> None:
    config = spoiled(tmp_path, PROBLEMS[name][0])
    scores = evaluate(by_colour, CLASSES, images=tmp_path, annotations=config.data.train, progress=False)
    assert max(score.values["AP75"] for score in scores) > 0.99


def test_eval_ends_with_the_problems_and_no_predictions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, expected = PROBLEMS["run lengths that are too short"]
    path, predictions = spoiled(tmp_path, change).data.train, tmp_path / "predictions.json"
    options = ["--annotations", str(path), "--device", "cpu", "--predictions", str(predictions)]
    options += ["--weights", str(untaught_weights(tmp_path))]
    assert main(["eval", "--images", str(tmp_path), *options]) == 2
    stderr = capsys.readouterr().err
    assert "error: the data has 1 problem (--bad-annotations skip leaves out" in stderr
    assert expected in stderr
    assert not predictions.exists()
    assert main(["eval", "--images", str(tmp_path), *options, "--bad-annotations", "skip"]) == 0
    assert "1 annotations left out" in capsys.readouterr().err
    assert predictions.exists()


def test_a_folder_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    values = values_of(tmp_path, images=str(tmp_path / "nowhere"))
    with pytest.raises(DataError) as caught:
        read_splits(write_config(tmp_path, values))
    assert f"there is no folder {tmp_path}/nowhere" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 6


def test_a_canvas_of_other_sides_is_refused_before_the_data(tmp_path: Path) -> None:
    make_config(tmp_path)
    arguments = ["train", str(tmp_path / "train.yaml"), "--set", "model.input.canvas=[60,100]"]
    assert main(arguments) == 2


ODD: tuple[Any, ...] = (
    None,
    "",
    "x",
    -1,
    1.5,
    10**12,
    1e400,
    True,
    [],
    [[]],
    {},
    [None],
    ["x"],
    {"counts": [1]},
)
KEYS = {
    "images": (
        "id",
        "file_name",
        "height",
        "width",
        "exhaustive_category_ids",
        "neg_category_ids",
        "coco_url",
    ),
    "categories": ("id", "name", "supercategory"),
    "annotations": (
        "id",
        "image_id",
        "category_id",
        "bbox",
        "segmentation",
        "iscrowd",
        "area",
        "possible_category_ids",
    ),
}


@pytest.mark.parametrize(("rows", "key"), [(rows, key) for rows, keys in KEYS.items() for key in keys])
def test_whatever_stands_in_a_file_is_taken_or_named(rows: str, key: str, tmp_path: Path) -> None:
    path = draw_data(tmp_path, images=2)
    config, whole = write_config(tmp_path, values_of(tmp_path)), path.read_text()
    for odd in ODD:
        content = json.loads(whole)
        content[rows][1][key] = odd
        path.write_text(json.dumps(content))
        taken = {is_taken(lambda: read_splits(config)), is_taken(lambda: score_drawn(path))}
        assert len(taken) == 1 or rows == "categories", odd


def is_taken(read: Callable[[], object]) -> bool:
    try:
        read()
    except UsageError:
        return False
    return True


def score_drawn(path: Path) -> object:
    return evaluate(by_colour, CLASSES, images=path.parent, annotations=path, progress=False)


@pytest.mark.parametrize("rows", KEYS)
def test_a_row_that_is_none_is_named(rows: str, tmp_path: Path) -> None:
    path = draw_data(tmp_path, images=2)
    config, whole = write_config(tmp_path, values_of(tmp_path)), path.read_text()
    for odd in ODD:
        content = json.loads(whole)
        content[rows].append(odd)
        path.write_text(json.dumps(content))
        for read in (lambda: read_splits(config), lambda: score_drawn(path)):
            with pytest.raises(DataError, match=r"number \d+"):
                read()
