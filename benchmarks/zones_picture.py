"""The picture of docs/howto/zones.md: a frame of the demo's overlay video.

    python benchmarks/zones_picture.py [--frame 119] [--out docs/assets/zones.webp]

Measures nothing: runs configs/demo.yaml with its outputs in a temporary folder, and keeps one frame.
"""

import argparse
import tempfile
from pathlib import Path

import av
import cv2

from streamseg.cli import main as streamseg

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--frame", type=int, default=119)
    options.add_argument("--out", type=Path, default=ROOT / "docs" / "assets" / "zones.webp")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "demo.mp4"
        outputs = f"outputs=[{{type: video, path: {video}}}]"
        code = streamseg(["run", "--config", str(ROOT / "configs" / "demo.yaml"), "--set", outputs])
        assert code == 0, "the run failed"
        with av.open(str(video)) as container:
            frames = (frame for k, frame in enumerate(container.decode(video=0)) if k == chosen.frame)
            picture = next(frames).to_ndarray(format="bgr24")
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(chosen.out), picture, [cv2.IMWRITE_WEBP_QUALITY, 80])
    print(f"{chosen.out}: {picture.shape[1]}x{picture.shape[0]}, {chosen.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
