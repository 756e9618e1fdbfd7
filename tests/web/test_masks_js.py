"""The page's own decoder of run lengths, run by Node.js, against pycocotools'."""

import json
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest
from pycocotools import mask as coco_mask

NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="Node.js is not installed")
def test_masks_are_read_as_they_were_written() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((37, 53)) < density for density in (0.0, 0.02, 0.5, 0.98, 1.0)]
    encoded = [coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]
    given = [{"size": list(e["size"]), "counts": e["counts"].decode()} for e in encoded]
    script = (
        files("streamseg.web").joinpath("static", "masks.js").read_text()
        + f"\nconst masks = {json.dumps(given)};"
        + "console.log(JSON.stringify(masks.map((mask) => Array.from({ length: mask.size[0] }, (_, y) =>"
        + " Array.from({ length: mask.size[1] }, (_, x) => covers(mask, x, y))))));"
    )
    assert NODE is not None
    answer = subprocess.run(
        [NODE, "--input-type=module", "-"],
        input=script,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for mask, seen in zip(masks, json.loads(answer.stdout), strict=True):
        np.testing.assert_array_equal(mask, np.array(seen))
