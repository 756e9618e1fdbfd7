"""What the command line and a configuration say about the overlay reaches the pictures."""

from pathlib import Path

import cv2
import numpy as np

from streamseg.cli import main
from tests.program import STREET, read_video


def sharpness(picture: np.ndarray) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def test_only_blurring(tmp_path: Path) -> None:
    """People lose their details, the rest of the picture stays as it was."""
    part = ["--end", "0.2", "--device", "cpu", "--no-progress"]
    for name, options in {"plain": [], "blur": ["--blur", "person"]}.items():
        paths = ["-o", str(tmp_path / f"{name}.mp4")]
        assert main(["run", str(STREET), *paths, *part, "--overlay", "none", *options]) == 0
    plain, blur = (read_video(tmp_path / f"{name}.mp4").first.astype(int) for name in ("plain", "blur"))
    differs = np.abs(plain - blur).max(axis=2) > 40
    assert 500 < differs.sum() < 0.1 * differs.size
    ys, xs = np.nonzero(differs)
    near = (slice(ys.min(), ys.max()), slice(xs.min(), xs.max()))
    assert sharpness(blur[near].astype(np.uint8)) < sharpness(plain[near].astype(np.uint8))
