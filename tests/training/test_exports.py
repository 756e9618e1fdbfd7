"""COCO files as labelling tools write them, with the peculiarities of each, to train and to score on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from streamseg.errors import DataError
from streamseg.training.config import TrainConfig
from streamseg.training.data.coco import CocoImage
from streamseg.training.data.splits import read_splits
from streamseg.training.evaluation import ClassScore, evaluate
from tests.support.drawn import CANVAS, content_of_config, draw_data, write_config
from tests.training.test_evaluation import CLASSES, by_colour

Content = dict[str, Any]


def export(folder: Path, change: Callable[[Content], Content], *, encoding: str = "utf-8") -> Path:
    """The drawn data as a tool writes it."""
    path = draw_data(folder)
    path.write_text(json.dumps(change(json.loads(path.read_text()))), encoding=encoding)
    return path


def config_of(folder: Path, **data: object) -> TrainConfig:
    values = content_of_config(folder)
    values["data"] = {"images": str(folder), "train": str(folder / "annotations.json")} | data
    return write_config(folder, values)


def scores_of(folder: Path, **options: Any) -> dict[str, ClassScore]:
    """Those of a segmenter that finds every drawn object."""
    found = evaluate(
        by_colour,
        CLASSES,
        images=folder,
        annotations=folder / "annotations.json",
        progress=False,
        **options,
    )
    return {score.name: score for score in found}


def assert_drawn_masks(images: list[CocoImage]) -> None:
    """The masks of all objects lie on the bright pixels."""
    for image in images:
        bright = image.read().max(axis=2) > 150
        masks = [o.mask(image.height, image.width) for o in image.objects]
        assert (np.any(masks, axis=0) == bright).mean() > 0.97


def test_cvat(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was painted is run lengths and marked iscrowd; what was outlined is polygons."""

    def change(content: Content) -> Content:
        for row in content["annotations"]:
            row["attributes"] = {"occluded": False, "rotation": 0.0}
            row["area"], row["bbox"] = float(row["area"]), [float(side) for side in row["bbox"]]
            if row["id"] % 4 < 2:
                row["segmentation"], row["iscrowd"] = painted(row), 1
        for row in content["images"]:
            row |= {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
        for row in content["categories"]:
            row["supercategory"] = ""
        info = {
            "contributor": "",
            "date_created": "",
            "description": "",
            "url": "",
            "version": "",
            "year": "",
        }
        return {"licenses": [{"name": "", "id": 0, "url": ""}], "info": info, **content}

    export(tmp_path, change)
    splits = read_splits(config_of(tmp_path))
    assert "4 of 8 objects are never taught: marked iscrowd" in caplog.text
    assert [o.crowd for image in splits.train for o in image.objects].count(True) == 4
    splits = read_splits(config_of(tmp_path, crowds="teach"))
    assert not any(o.crowd for image in splits.train for o in image.objects)
    assert_drawn_masks(splits.train)
    ignored, taught = scores_of(tmp_path), scores_of(tmp_path, crowds="teach")
    assert [ignored[name].objects for name in CLASSES] == [2, 2]
    assert [taught[name].objects for name in CLASSES] == [4, 4]
    assert min(taught[name].values["AP75"] for name in CLASSES) > 0.99
    assert "4 of 8 objects are never scored" in caplog.text


def painted(row: Content) -> Content:
    """An annotation's mask as run lengths that are not compressed."""
    encoded = coco_mask.merge(coco_mask.frPyObjects(row["segmentation"], *CANVAS))
    flat = coco_mask.decode(encoded).flatten(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
    counts = np.diff([0, *edges, flat.size]).tolist()
    return {"counts": counts, "size": list(CANVAS)}


def test_label_studio(tmp_path: Path) -> None:
    """Ids from 0, file names with a folder, no size of pictures that nobody has labelled, rectangles."""

    def change(content: Content) -> Content:
        ids = {7: 1, 9: 0}
        content["categories"] = [{"id": 0, "name": "box"}, {"id": 1, "name": "disc"}]
        kept = [row for row in content["annotations"] if row["image_id"] != 3]
        for number, row in enumerate(kept):
            row |= {"id": number, "category_id": ids[row["category_id"]], "ignore": 0}
        kept.append(kept[0] | {"id": len(kept), "segmentation": [], "bbox": [2.5, 2.5, 9.5, 9.5]})
        for row in content["images"]:
            row["file_name"] = f"images\\{row['file_name']}" if row["id"] else f"images/{row['file_name']}"
        content["images"][3] |= {"width": None, "height": None}
        return content | {"annotations": kept, "info": {"year": 2026, "contributor": "Label Studio"}}

    export(tmp_path, change, encoding="utf-8-sig")
    with pytest.raises(DataError, match="annotation 6: its segmentation is empty"):
        read_splits(config_of(tmp_path))
    splits = read_splits(config_of(tmp_path, bad_annotations="skip"))
    assert [len(image.objects) for image in splits.train] == [2, 2, 2, 0]
    assert (splits.train[3].height, splits.train[3].width) == CANVAS
    assert_drawn_masks(splits.train[:3])
    with pytest.raises(DataError, match=r"its segmentation is empty"):
        scores_of(tmp_path)
    scores = scores_of(tmp_path, bad_annotations="skip")
    assert (
        min(scores[name].values["AP75"] for name in CLASSES) > 0.6
    )  # image 3 has objects without annotations


@pytest.mark.parametrize("project", ["shapes", "disc"])
def test_roboflow(project: str, tmp_path: Path) -> None:
    """The first category is the project, without objects, and may be called as a class is."""

    def change(content: Content) -> Content:
        names = {7: 2, 9: 1}
        for number, row in enumerate(content["annotations"]):
            row |= {"id": number, "category_id": names[row["category_id"]]}
        for row in content["images"]:
            row |= {"license": 1, "date_captured": "2026-01-01", "extra": {"name": row["file_name"]}}
        content["categories"] = [
            {"id": 0, "name": project, "supercategory": "none"},
            {"id": 1, "name": "box", "supercategory": project},
            {"id": 2, "name": "disc", "supercategory": project},
        ]
        return content

    export(tmp_path, change)
    splits = read_splits(config_of(tmp_path))
    assert sorted({o.class_id for image in splits.train for o in image.objects}) == [0, 1]
    assert_drawn_masks(splits.train)
    scores = scores_of(tmp_path)
    assert [scores[name].objects for name in CLASSES] == [4, 4]
    assert min(scores[name].values["AP75"] for name in CLASSES) > 0.99


def test_labelme(tmp_path: Path) -> None:
    """Ids from 0, boxes and areas as floats, null keys, a background category, names with folders."""

    def change(content: Content) -> Content:
        for number, row in enumerate(content["annotations"]):
            row |= {"id": number, "area": float(row["area"]), "bbox": [float(side) for side in row["bbox"]]}
            row["image_id"] = float(row["image_id"])
        for row in content["images"]:
            row |= {"license": 0, "url": None, "date_captured": None}
            row["file_name"] = f"JPEGImages/{row['file_name']}"
            row |= {"height": float(row["height"]), "width": float(row["width"])}
        categories = [{"id": 0, "name": "_background_"}, *content["categories"]]
        content["categories"] = [row | {"supercategory": None} for row in categories]
        return content | {"type": "instances", "info": {"description": None, "version": None}}

    export(tmp_path, change)
    splits = read_splits(config_of(tmp_path))
    assert_drawn_masks(splits.train)
    scores = scores_of(tmp_path)
    assert min(scores[name].values["AP75"] for name in CLASSES) > 0.99


def test_lvis(tmp_path: Path) -> None:
    """Pictures by URL; which categories an image lacks, and which are not annotated in full."""

    def change(content: Content) -> Content:
        for row in content["images"]:
            name = row.pop("file_name")
            row["coco_url"] = f"http://images.cocodataset.org/train2017/{name}"
            row |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        # The box of image 1 is one of many, that of image 2 is not annotated, image 0 is said to have none.
        content["images"][1]["not_exhaustive_category_ids"] = [9]
        content["images"][0]["neg_category_ids"] = [9]
        content["annotations"] = [
            {key: value for key, value in row.items() if key != "iscrowd"}
            for row in content["annotations"]
            if not (row["category_id"] == 9 and row["image_id"] in {0, 2})
        ]
        for row in content["categories"]:
            row |= {
                "synset": f"{row['name']}.n.01",
                "frequency": "c",
                "synonyms": [],
                "def": "",
                "image_count": 4,
            }
        return content

    export(tmp_path, change)
    splits = read_splits(config_of(tmp_path))
    assert [sorted(image.exhaustive) for image in splits.train] == [[0, 1], [0], [0], [0, 1]]
    scores = scores_of(tmp_path)
    assert (scores["disc"].images, scores["box"].images) == (4, 2)
    assert scores["disc"].values["AP75"] > 0.99
    assert 0.3 < scores["box"].values["AP75"] < 0.9  # found where there is none, and where there is one


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_file_in_any_unicode(encoding: str, tmp_path: Path) -> None:
    export(tmp_path, lambda content: content, encoding=encoding)
    assert len(read_splits(config_of(tmp_path)).train) == 4


def test_a_polygon_need_not_be_in_a_list(tmp_path: Path) -> None:
    def change(content: Content) -> Content:
        for row in content["annotations"]:
            (row["segmentation"],) = row["segmentation"]
        return content

    export(tmp_path, change)
    assert_drawn_masks(read_splits(config_of(tmp_path)).train)
    assert min(score.values["AP75"] for score in scores_of(tmp_path).values()) > 0.99


@pytest.mark.parametrize("area", [None, 0, -5, "12", float("nan"), float("inf"), [3]])
def test_an_area_that_is_none_comes_from_the_mask(area: object, tmp_path: Path) -> None:
    def change(content: Content) -> Content:
        for row in content["annotations"]:
            row["area"] = area
            row["bbox"] = None
        return content

    export(tmp_path, change)
    for score in scores_of(tmp_path).values():
        assert score.values["APs"] > 0.8  # all are smaller than 32 x 32
        assert score.values["APm"] == -1
