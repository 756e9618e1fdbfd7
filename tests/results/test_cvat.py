"""Labels for CVAT: valid by a schema of the format, and drawn as CVAT draws them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from streamseg.errors import UsageError
from streamseg.results.export import Export
from streamseg.results.survey import Selection
from streamseg.types import FrameResult
from tests.support.stored import SHAPES, SIZE, drawn, mask, stored, write_results

xmlschema = pytest.importorskip("xmlschema")

SCHEMA = Path(__file__).with_name("cvat.xsd")


def cvat(folder: Path, results: Sequence[FrameResult], **options: object) -> tuple[ElementTree.Element, str]:
    """The file, which is valid, and what it does not hold."""
    path = write_results(folder / "run.ndjson", results)
    export = Export.of([path], "cvat", folder / "out.xml", Selection())
    remarks = export.write(**options)  # type: ignore[arg-type]
    xmlschema.XMLSchema(str(SCHEMA)).validate(str(folder / "out.xml"))
    return ElementTree.parse(folder / "out.xml").getroot(), "; ".join(remarks)


def filled(points: str) -> NDArray[np.bool_]:
    """What is inside a polygon."""
    ring = [float(number) for pair in points.split(";") for number in pair.split(",")]
    runs = coco_mask.frPyObjects([ring], SIZE[1], SIZE[0])
    return np.asarray(coco_mask.decode(coco_mask.merge(runs)), np.bool_)


def seen(track: ElementTree.Element) -> list[tuple[int, bool]]:
    return [(int(shape.get("frame", "")), shape.get("outside") == "0") for shape in track]


@pytest.mark.parametrize("shape", SHAPES)
def test_an_exact_polygon_is_the_mask(tmp_path: Path, shape: str) -> None:
    root, remarks = cvat(tmp_path, stored(drawn(shape)), tolerance=0.0)
    (polygon,) = root.findall("track/polygon")
    np.testing.assert_array_equal(filled(polygon.get("points", "")), mask(shape))
    assert "outlines are exact" in remarks


@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_is_the_mask(tmp_path: Path, shape: str) -> None:
    root, remarks = cvat(tmp_path, stored(drawn(shape)), shapes="masks")
    (found,) = root.findall("track/mask")
    left, top, width, height = (int(found.get(key, "")) for key in ("left", "top", "width", "height"))
    runs = [int(count) for count in found.get("rle", "").split(",")]
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    full = np.zeros((SIZE[1], SIZE[0]), np.bool_)
    full[top : top + height, left : left + width] = flat.reshape(height, width)
    np.testing.assert_array_equal(full, mask(shape))
    assert remarks == "scores are left out; masks have no track ids"


def test_objects_are_tracks_that_end_where_they_are_gone(tmp_path: Path) -> None:
    both, ring, dot = drawn("ring", "dot", ids=(7, 3)), drawn("ring", ids=(7,)), drawn("dot", ids=(3,))
    root, _ = cvat(tmp_path, stored(both, ring, dot, both, step=5))
    first, second = root.findall("track")
    assert seen(first) == [(0, True), (5, True), (10, False), (15, True)]
    assert seen(second) == [(0, True), (5, False), (10, True), (15, True)]
    assert root.findtext("meta/task/size") == "16"
    assert root.findtext("meta/task/original_size/width") == "64"


def test_an_object_without_an_id_is_seen_once(tmp_path: Path) -> None:
    alone = drawn("ring", ids=(None,))
    root, _ = cvat(tmp_path, stored(alone, alone, drawn()))
    assert [seen(track) for track in root.findall("track")] == [
        [(0, True), (1, False)],
        [(1, True), (2, False)],
    ]


def test_a_track_has_the_label_that_is_most_frequent(tmp_path: Path) -> None:
    names = ("car", "person", "person")
    root, remarks = cvat(tmp_path, stored(*[drawn("ring", ids=(1,), labels=(name,)) for name in names]))
    assert [track.get("label") for track in root.findall("track")] == ["person"]
    assert "tracks with several labels have the most frequent one: 1" in remarks


def test_pieces_are_joined_and_that_is_told(tmp_path: Path) -> None:
    _, remarks = cvat(tmp_path, stored(drawn("pieces", "ring")))
    assert "pieces of an object are joined by cuts without width: 1 times" in remarks
    assert "outlines are up to 1 pixels off" in remarks


def test_names_with_signs_of_xml_stay_valid(tmp_path: Path) -> None:
    results = stored(drawn("ring"))
    path = write_results(tmp_path / "run.ndjson", results)
    path.write_text(path.read_text().replace('"person"', '"<b> & \\"c\\""'))
    export = Export.of([path], "cvat", tmp_path / "out.xml", Selection())
    export.write()
    xmlschema.XMLSchema(str(SCHEMA)).validate(str(tmp_path / "out.xml"))
    (track,) = ElementTree.parse(tmp_path / "out.xml").getroot().findall("track")
    assert track.get("label") == '<b> & "c"'


def test_a_stream_whose_size_changes_is_refused(tmp_path: Path) -> None:
    first, second = stored(drawn(), drawn())
    path = write_results(tmp_path / "run.ndjson", [first, second])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace('"width":64', '"width":128')]) + "\n")
    with pytest.raises(UsageError, match="has pictures of 64x48, 128x48: a CVAT task has one size"):
        Export.of([path], "cvat", tmp_path / "out.xml", Selection()).write()


def test_the_schema_refuses_what_cvat_cannot_read(tmp_path: Path) -> None:
    cvat(tmp_path, stored(drawn("ring")))
    text, schema = (tmp_path / "out.xml").read_text(), xmlschema.XMLSchema(str(SCHEMA))
    for wrong in (
        text.replace('keyframe="1"', ""),
        text.replace('label="person"', 'label="car"'),
        text.replace("points=", "rle="),
        text.replace("<version>1.1", "<version>1.0"),
    ):
        assert wrong != text
        assert not schema.is_valid(wrong)
