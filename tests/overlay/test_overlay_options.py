"""What the command line and a configuration say about the overlay reaches the pictures."""

from pathlib import Path

import cv2
import numpy as np

from streamseg.cli import main
from streamseg.config import OverlayOptions
from streamseg.redis.publish import RedisOutput
from streamseg.types import StreamEnd
from tests.support.broker import RunningBroker
from tests.support.clips import frame, info, instances, result_of
from tests.support.program import STREET, read_video


def sharpness(picture: np.ndarray) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


def test_pictures_in_redis_are_blurred_too(broker: RunningBroker) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    options = OverlayOptions(masks=False, outlines=False, labels=False, ids=False, blur=("person",))
    output = RedisOutput(broker.url, overlays=True, overlay=options)
    writer = output.open(info())
    taken, found = frame(0, pixels=noise), instances(boxes=[(10, 4, 50, 44)])
    writer.write(result_of(taken, found), taken, found)
    writer.close(StreamEnd.ENDED)
    output.shutdown()
    with broker.client() as client:
        ((_, fields),) = client.xrange("streamseg:{cam}:overlays")
    picture = cv2.imdecode(np.frombuffer(fields[b"jpeg"], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert sharpness(picture[8:40, 14:46]) < sharpness(noise[8:40, 14:46]) / 20


def test_only_blurring(tmp_path: Path) -> None:
    """People lose their details, the rest of the picture stays as it was."""
    part = ["--end", "0.04", "--device", "cpu", "--no-progress"]
    path = tmp_path / "blur.mp4"
    assert main(["run", str(STREET), "-o", str(path), *part, "--overlay", "none", "--blur", "person"]) == 0
    plain, blur = (read_video(video).first.astype(int) for video in (STREET, path))
    differs = np.abs(plain - blur).max(axis=2) > 40
    assert 500 < differs.sum() < 0.1 * differs.size
    ys, xs = np.nonzero(differs)
    near = (slice(ys.min(), ys.max()), slice(xs.min(), xs.max()))
    assert sharpness(blur[near].astype(np.uint8)) < sharpness(plain[near].astype(np.uint8))
