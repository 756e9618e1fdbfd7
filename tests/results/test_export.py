"""Labels made of stored results, read back by the tools that they are for."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from streamseg.errors import UsageError
from streamseg.results.export import Export, Format
from streamseg.results.export.classes import number_classes
from streamseg.results.export.mots import number_mots_classes
from streamseg.results.survey import Selection, result_files
from streamseg.types import FrameResult
from tests.support.stored import SHAPES, SIZE, drawn, mask, stored, write_results


def export(
    folder: Path,
    format_: Format,
    results: Sequence[FrameResult],
    out: str = "out",
    selection: Selection | None = None,
    **options: Any,
) -> str:
    """Write labels; returns what they do not hold."""
    path = write_results(folder / "run.ndjson", results)
    work = Export.of([path], format_, folder / out, selection or Selection())
    return "; ".join(work.write(**options))


def everything() -> list[FrameResult]:
    """Two frames with objects, one without."""
    return stored(drawn(*SHAPES), drawn(), drawn("ring", "dot", labels=("car", "person")), first=3, step=2)


def coco_masks(content: dict[str, Any], image: int) -> list[NDArray[np.bool_]]:
    """The masks of an image, as pycocotools reads them."""
    masks = []
    for row in content["annotations"]:
        if row["image_id"] == image:
            given = row["segmentation"]
            runs = coco_mask.merge(coco_mask.frPyObjects(given, 48, 64)) if isinstance(given, list) else given
            masks.append(np.asarray(coco_mask.decode(runs), np.bool_))
    return masks


@pytest.mark.parametrize("shapes", ["masks", "polygons"])
def test_masks_of_coco_are_equal(tmp_path: Path, shapes: str) -> None:
    results = everything()
    assert export(tmp_path, "coco", results, "labels.json", shapes=shapes) == ""
    content = json.loads((tmp_path / "labels.json").read_text())
    for number, result in enumerate(results, start=1):
        expected = [instance.mask for instance in result.instances]
        found = coco_masks(content, number)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_rows_of_coco_say_what_the_results_say(tmp_path: Path) -> None:
    export(tmp_path, "coco", everything(), "labels.json")
    content = json.loads((tmp_path / "labels.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [
        "cam_000003.jpg",
        "cam_000005.jpg",
        "cam_000007.jpg",
    ]
    assert content["images"][1] | {"pts": 0} == {
        **{"id": 2, "file_name": "cam_000005.jpg", "width": 64, "height": 48},
        **{"stream": "cam", "frame": 5, "pts": 0},
    }
    assert content["categories"] == [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    *_, ring, dot = content["annotations"]
    assert (ring["category_id"], dot["category_id"]) == (3, 1)
    assert (dot["bbox"], dot["area"], dot["iscrowd"]) == ([10.0, 40.0, 1.0, 1.0], 1, 0)
    assert [row["id"] for row in content["annotations"]] == list(range(1, 9))


def test_polygons_with_a_tolerance_say_so(tmp_path: Path) -> None:
    told = export(tmp_path, "coco", everything(), "labels.json", shapes="polygons", tolerance=1.5)
    assert told == "outlines are up to 1.5 pixels off"


def yolo_masks(text: str) -> list[NDArray[np.bool_]]:
    """The masks of a picture, drawn as YOLO's data loader and supervision draw them."""
    masks = []
    for line in text.splitlines():
        points = np.array(line.split()[1:], np.float64).reshape(-1, 2) * SIZE
        picture = np.zeros((SIZE[1], SIZE[0]), np.uint8)
        cv2.fillPoly(picture, [points.astype(np.int32)], 1)
        masks.append(picture.astype(np.bool_))
    return masks


@pytest.mark.parametrize("shape", ["ring", "dot", "diagonal", "border"])
def test_polygons_of_yolo_are_the_masks(tmp_path: Path, shape: str) -> None:
    told = export(tmp_path, "yolo", stored(drawn(shape)))
    assert told == "scores and track ids are left out"
    (found,) = yolo_masks((tmp_path / "out/labels/cam_000000.txt").read_text())
    np.testing.assert_array_equal(found, mask(shape))


def test_pieces_of_yolo_are_joined_by_a_line(tmp_path: Path) -> None:
    told = export(tmp_path, "yolo", stored(drawn("pieces")))
    assert "pieces of an object are joined by lines a pixel wide: 1 times" in told
    (found,) = yolo_masks((tmp_path / "out/labels/cam_000000.txt").read_text())
    assert not (mask("pieces") & ~found).any()
    assert 0 < (found & ~mask("pieces")).sum() < 30


def test_yolo_has_a_file_for_each_picture_and_one_for_the_classes(tmp_path: Path) -> None:
    export(tmp_path, "yolo", everything())
    files = sorted((tmp_path / "out/labels").iterdir())
    assert [file.name for file in files] == [f"cam_00000{n}.txt" for n in (3, 5, 7)]
    assert files[1].read_text() == ""
    assert [line.split()[0] for line in files[2].read_text().splitlines()] == ["2", "0"]
    data = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert data["names"] == {0: "person", 1: "class_1", 2: "car"}
    assert {data["train"], data["val"]} == {"images"}


def test_supervision_reads_coco_and_yolo(tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    results = everything()
    known = ("person", "bicycle", "car")
    export(tmp_path, "coco", results, "coco/annotations.json", known=known)
    export(tmp_path, "yolo", results, "yolo", known=known)
    images = tmp_path / "yolo/images"
    images.mkdir()
    for number in (3, 5, 7):
        cv2.imwrite(str(images / f"cam_00000{number}.jpg"), np.zeros((48, 64, 3), np.uint8))
    coco = supervision.DetectionDataset.from_coco(
        str(images), str(tmp_path / "coco/annotations.json"), force_masks=True
    )
    yolo = supervision.DetectionDataset.from_yolo(
        str(images), str(tmp_path / "yolo/labels"), str(tmp_path / "yolo/data.yaml"), force_masks=True
    )
    assert list(coco.classes) == list(yolo.classes) == list(known)
    for dataset in (coco, yolo):
        (last,) = (found for path, found in dataset.annotations.items() if path.endswith("7.jpg"))
        by_class = dict(zip(last.class_id.tolist(), last.mask, strict=True))
        np.testing.assert_array_equal(by_class[2], mask("ring"))
        np.testing.assert_array_equal(by_class[0], mask("dot"))


def mots_lines(path: Path) -> list[list[str]]:
    return [line.split(" ") for line in path.read_text().splitlines()]


def test_mots_has_a_line_an_object_and_no_shared_pixels(tmp_path: Path) -> None:
    found = drawn("ring", "noise", "dot", ids=(4, 9, None), labels=("person", "car", "person"))
    told = export(tmp_path, "mots", stored(found, found), "run.txt")
    lines = mots_lines(tmp_path / "run.txt")
    assert [line[:5] for line in lines] == [
        [frame, id_, class_, "48", "64"]
        for frame in ("1", "2")
        for id_, class_ in (("2001", "2"), ("1001", "1"))
    ]
    ring, noise = (coco_mask.decode({"size": [48, 64], "counts": line[5]}) for line in lines[:2])
    np.testing.assert_array_equal(ring, mask("ring"))
    np.testing.assert_array_equal(noise, mask("noise") & ~mask("ring"))
    assert told.startswith("classes are car 1, person 2; ")
    assert "left out without a track id: 2" in told
    assert "objects that leave pixels to one with a better score: 2" in told


def test_classes_of_mots_keep_clear_of_its_own_numbers() -> None:
    numbers = number_mots_classes([*"abcdefghi", "person", "car"])
    assert (numbers["car"], numbers["person"], numbers["a"], numbers["g"]) == (1, 2, 3, 9)
    assert (numbers["h"], numbers["i"]) == (11, 12)


def test_an_object_of_mots_that_is_covered_wholly_is_left_out_and_counted(tmp_path: Path) -> None:
    told = export(tmp_path, "mots", stored(drawn("ring", "ring", ids=(1, 2))), "run.txt")
    assert len(mots_lines(tmp_path / "run.txt")) == 1
    assert "left out, covered wholly by others: 1" in told


def test_ids_of_mots_stay_apart_with_a_thousand_objects_of_a_class(tmp_path: Path) -> None:
    results = stored(
        *[drawn("dot", "ring", ids=(2 * n, 2 * n + 1), labels=("car", "person")) for n in range(1005)]
    )
    export(tmp_path, "mots", results, "run.txt")
    lines = mots_lines(tmp_path / "run.txt")
    assert len({line[1] for line in lines}) == 2010
    assert {(line[2], int(line[1]) // 2000) for line in lines} == {("1", 1), ("2", 2)}


def test_ids_of_two_epochs_are_two_objects(tmp_path: Path) -> None:
    results = stored(drawn("ring", ids=(1,)), drawn("ring", ids=(1,)))
    results[1] = msgspec.structs.replace(results[1], epoch=1)
    export(tmp_path, "mots", results, "run.txt")
    assert [line[1] for line in mots_lines(tmp_path / "run.txt")] == ["2001", "2002"]


def test_results_without_ids_are_no_tracks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="labels for mots need track ids"):
        export(tmp_path, "mots", stored(replace(drawn("ring"), ids=())), "run.txt")


def test_a_table_has_a_row_an_object(tmp_path: Path) -> None:
    results = everything()
    first = msgspec.structs.replace(results[0].instances[0], zones=("door", "yard"))
    results[0] = msgspec.structs.replace(results[0], instances=(first, *results[0].instances[1:]))
    told = export(tmp_path, "csv", results, "run.csv")
    with (tmp_path / "run.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {key: rows[0][key] for key in ("stream", "frame", "id", "label", "score", "zones")} == {
        **{"stream": "cam", "frame": "3", "id": "0", "label": "person"},
        **{"score": "0.9", "zones": "door;yard"},
    }
    box = tuple(float(rows[0][side]) for side in ("x1", "y1", "x2", "y2"))
    assert box == results[0].instances[0].box
    assert told == "masks are left out; frames without objects have no row: 1"


def test_a_selection_is_what_is_written(tmp_path: Path) -> None:
    found = drawn("ring", "dot", "border", labels=("person", "car", "car"))  # scores 0.9, 0.7, 0.5
    wanted = Selection(classes=["car"], score=0.6, stride=2)
    export(tmp_path, "coco", stored(*[found] * 5), "labels.json", wanted)
    content = json.loads((tmp_path / "labels.json").read_text())
    assert [image["frame"] for image in content["images"]] == [0, 2, 4]
    assert [row["score"] for row in content["annotations"]] == [0.7] * 3
    assert [category["name"] for category in content["categories"]] == ["car"]


def test_classes_keep_the_models_numbers_unless_models_disagree() -> None:
    assert number_classes({("car", 2), ("person", 0)}) == {"person": 0, "car": 2}
    known = ("person", "bicycle", "car")
    assert number_classes({("car", 2)}, known) == {"person": 0, "bicycle": 1, "car": 2}
    assert number_classes({("car", 2), ("dog", 2)}) == {"car": 0, "dog": 1}
    assert number_classes({("car", 2), ("car", 3), ("bus", 1)}) == {"bus": 0, "car": 1}


def test_several_streams_get_a_file_each_where_the_format_has_one_video_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    write_results(folder / "a.ndjson", stored(drawn("ring"), stream="a"))
    write_results(folder / "b.ndjson", stored(drawn("dot", "ring"), stream="b"))
    files = result_files([folder])
    Export.of(files, "mots", tmp_path / "mots", Selection()).write()
    assert [len(mots_lines(tmp_path / f"mots/{name}.txt")) for name in "ab"] == [1, 2]
    Export.of(files, "coco", tmp_path / "labels.json", Selection()).write()
    content = json.loads((tmp_path / "labels.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["a_000000.jpg", "b_000000.jpg"]
    with pytest.raises(UsageError, match=r"all\.txt: 2 streams need a folder, a file \.txt for each"):
        Export.of(files, "mots", tmp_path / "all.txt", Selection())


def refusal(files: Sequence[Path], format_: Format, out: Path) -> str:
    with pytest.raises(UsageError) as caught:
        Export.of(files, format_, out, Selection())
    return str(caught.value)


def test_places_that_will_not_do_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = write_results(tmp_path / "run.ndjson", everything())
    assert "labels for coco go to a name that ends in .json, or a folder" in refusal(
        [path], "coco", tmp_path / "a.xml"
    )
    assert "labels for yolo go to a folder" in refusal([path], "yolo", tmp_path / "a.txt")
    assert "there are files in it already; name a new folder" in refusal([path], "yolo", tmp_path)
    (tmp_path / "file").touch()
    assert "is not a folder" in refusal([path], "csv", tmp_path / "file/out.csv")


def test_files_that_will_not_do_are_refused(tmp_path: Path) -> None:
    path = write_results(tmp_path / "a.ndjson", everything())
    same = write_results(tmp_path / "b.ndjson", everything())
    assert "both hold results of the stream cam" in refusal([path, same], "coco", tmp_path / "out.json")
    Export.of([path, same], "csv", tmp_path / "both.csv", Selection()).write()
    with pytest.raises(UsageError, match=r"a\.ndjson: is named twice"):
        result_files([path, tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"empty: holds no \.ndjson file$"):
        result_files([tmp_path / "empty"])
    (tmp_path / "empty/x.ndjson.partial").touch()
    with pytest.raises(UsageError, match=r"what an interrupted run left is in .*x\.ndjson\.partial"):
        result_files([tmp_path / "empty"])


def test_a_run_that_still_writes_gives_what_was_there_when_its_results_were_looked_at(tmp_path: Path) -> None:
    path = write_results(tmp_path / "run.ndjson.partial", everything()[:2])
    work = Export.of([path], "mots", tmp_path / "out.txt", Selection())
    write_results(path, [*everything()[:2], *stored(drawn("ring", ids=(99,)), first=9)])
    work.write()
    assert {line[0] for line in mots_lines(tmp_path / "out.txt")} == {"4"}
