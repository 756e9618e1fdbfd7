"""The step of a Ray Data pipeline: in a real one, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from streamseg.errors import UsageError
from streamseg.ray_data import Segment
from tests.support.program import ROOT

_PIPELINE = """
import sys
import numpy as np
import ray
from streamseg.ray_data import Segment

ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=80 << 20)
ray.data.DataContext.get_current().enable_progress_bars = False
street, dark = np.load(sys.argv[1]).values()
pictures = {"street": street, "dark": dark, "again": street}
rows = [{"name": name, "image": picture} for name, picture in pictures.items()]
found = ray.data.from_items(rows, override_num_blocks=1).map_batches(
    Segment, fn_constructor_kwargs={"device": "cpu", "runtime": "torch"}, batch_size=1, concurrency=1
)
found.write_parquet(sys.argv[2])
"""


@pytest.fixture(scope="module")
def segment() -> Segment:
    return Segment(device="cpu", runtime="torch")


@pytest.fixture(scope="module")
def street() -> NDArray[np.uint8]:
    with Image.open(ROOT / "samples" / "street.jpg") as picture:
        return np.asarray(picture.convert("RGB").resize((320, 180)))


DARK = np.zeros((96, 128, 3), np.uint8)
"""Of another size, and there is nothing in it."""


def test_masks_fill_their_boxes(segment: Segment, street: NDArray[np.uint8]) -> None:
    pictures = np.empty(2, object)
    pictures[0], pictures[1] = street, DARK
    found = segment({"image": pictures, "name": np.array(["street", "dark"])})
    assert "image" not in found
    assert list(found["name"]) == ["street", "dark"]
    assert list(zip(found["height"], found["width"], strict=True)) == [(180, 320), (96, 128)]
    assert found["labels"][1] == found["boxes"][1] == found["masks"][1] == []
    assert found["labels"][0]
    for box, counts in zip(found["boxes"][0], found["masks"][0], strict=True):
        mask = coco_mask.decode({"size": [180, 320], "counts": counts})
        ys, xs = np.nonzero(mask)
        assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
    scores = found["scores"][0]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == len(found["class_ids"][0]) == len(found["labels"][0])


@pytest.mark.timeout(300)
def test_a_pipeline_of_ray_data(segment: Segment, street: NDArray[np.uint8], tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    parquet = pytest.importorskip("pyarrow.parquet")
    np.savez(tmp_path / "pictures.npz", street, DARK)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", _PIPELINE, tmp_path / "pictures.npz", tmp_path / "found"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in parquet.read_table(tmp_path / "found").to_pylist()}
    expected = segment({"image": street[None]})
    for name in ("street", "again"):
        assert {key: rows[name][key] for key in expected} == {key: expected[key][0] for key in expected}
    assert rows["dark"]["masks"] == []


def test_what_is_no_picture_is_told(segment: Segment) -> None:
    with pytest.raises(UsageError, match=r"no column 'image': there are picture"):
        segment({"picture": DARK[None]})
    with pytest.raises(UsageError, match=r"is \(H, W, 3\) uint8 RGB, not \(96, 128\) uint8"):
        segment({"image": DARK[None, :, :, 0]})
    with pytest.raises(UsageError, match=r"not .* float64"):
        segment({"image": DARK[None].astype(float)})


def test_pictures_are_passed_on_if_asked_for(street: NDArray[np.uint8]) -> None:
    keeping = Segment(column="picture", keep_pictures=True, device="cpu", runtime="torch")
    found = keeping({"picture": street[None]})
    assert found["picture"] is not None
    assert found["labels"][0]
