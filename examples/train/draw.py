"""Draw pictures of discs and boxes with annotations as CVAT exports them, to try training with.

python examples/train/draw.py FOLDER [PICTURES]
"""

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 240, 320
COLOURS = {1: (230, 60, 40), 2: (40, 90, 230)}


def main(folder: str = "my_data", pictures: str = "40") -> None:
    """Write ``images/`` and ``annotations.json``."""
    out, rng = Path(folder), np.random.default_rng(7)
    (out / "images").mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {
        "categories": [{"id": 1, "name": "disc"}, {"id": 2, "name": "box"}],
        "images": [],
        "annotations": [],
    }
    for number in range(int(pictures)):
        picture = rng.integers(0, 80, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
        name = f"{number:03d}.png"
        content["images"].append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        for category, column in ((1, 80), (2, 240)):
            mask = draw(category, column, rng)
            picture[mask > 0] = COLOURS[category]
            content["annotations"].append(annotation(len(content["annotations"]) + 1, number, category, mask))
        cv2.imwrite(str(out / "images" / name), picture[..., ::-1])
    (out / "annotations.json").write_text(json.dumps(content))
    print(f"{out}: {pictures} pictures")


def draw(category: int, column: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A mask, (HEIGHT, WIDTH) of 0 and 1, with one disc or box near a column."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    x, y = column + int(rng.integers(-30, 31)), int(rng.integers(70, HEIGHT - 70))
    size = int(rng.integers(25, 50))
    if category == 1:
        cv2.circle(mask, (x, y), size, 1, -1)
    else:
        cv2.rectangle(mask, (x - size, y - size * 2 // 3), (x + size, y + size * 2 // 3), 1, -1)
    return mask


def annotation(number: int, image: int, category: int, mask: NDArray[np.uint8]) -> dict[str, Any]:
    """As CVAT writes what was painted: run lengths, marked ``iscrowd``."""
    packed = coco_mask.encode(np.asfortranarray(mask))
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat, prepend=0)).tolist()
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": {"counts": np.diff([0, *edges, flat.size]).tolist(), "size": [HEIGHT, WIDTH]},
        "area": float(coco_mask.area(packed)),
        "bbox": coco_mask.toBbox(packed).tolist(),
        "iscrowd": 1,
        "attributes": {"occluded": False},
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
