"""Segment one picture: cut each object out, and write the picture with its masks in colour.

python examples/picture.py [PICTURE] [FOLDER]
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from streamseg import Segmenter


def main(picture: str = "samples/street.jpg", folder: str = "out/picture") -> None:
    """Write ``masks.png`` and a PNG of each object into ``folder``."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    image = np.asarray(Image.open(picture).convert("RGB"))  # (H, W, 3) uint8 RGB
    found = Segmenter.load("demo")(image)
    painted = image.copy()
    colours = np.random.default_rng(1).integers(64, 256, size=(len(found), 3))
    for number, one in enumerate(found):
        x1, y1, x2, y2 = one.boxes[0].tolist()
        crop = one.crops[0]  # (y2 - y1, x2 - x1) bool
        painted[y1:y2, x1:x2][crop] = (painted[y1:y2, x1:x2][crop] + colours[number]) // 2
        cut = Image.fromarray(image[y1:y2, x1:x2]).convert("RGBA")
        cut.putalpha(Image.fromarray(crop.astype(np.uint8) * 255))
        cut.save(out / f"{number:02d}_{one.labels[0]}.png")
        print(f"{one.labels[0]:12} {one.scores[0]:.2f}  {crop.sum()} pixels")
    Image.fromarray(painted).save(out / "masks.png")
    print(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
