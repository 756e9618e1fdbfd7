"""Frames of clips as two weights segment them, side by side, for judging by eye.

python benchmarks/before_after.py --before OLD.safetensors [--after demo] --out FILE.jpg CLIP=FRAME,FRAME ...
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from streamseg import Segmenter
from streamseg.overlay.paint import paint

HEIGHT = 360
"""Pixels of a frame on the sheet."""
SCORE = 0.35


def frames(clip: Path, wanted: set[int]) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(clip)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in wanted:
                yield frame.to_ndarray(format="rgb24")
            if number >= max(wanted):
                return


def small(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    width = round(picture.shape[1] * HEIGHT / picture.shape[0])
    return np.asarray(cv2.resize(picture, (width, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("clips", nargs="+", metavar="CLIP=FRAMES")
    options.add_argument("--before", required=True)
    options.add_argument("--after", default="demo")
    options.add_argument("--out", type=Path, required=True)
    chosen = options.parse_args()
    segmenters = [Segmenter.load(name, score=SCORE) for name in (chosen.before, chosen.after)]
    rows = []
    for entry in chosen.clips:
        clip, numbers = entry.rsplit("=", 1)
        for picture in frames(Path(clip), {int(n) for n in numbers.split(",")}):
            sides = [small(paint(picture, segment(picture))) for segment in segmenters]
            rows.append(np.hstack(sides))
    width = max(row.shape[1] for row in rows)
    sheet = np.vstack([np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows])
    cv2.imwrite(str(chosen.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
