"""The pictures of README and site, from real runs.

python -m docs.generate.pictures            samples/street.jpg and docs/assets/street.webp
"""

import tempfile
from pathlib import Path

import av
from PIL import Image

from streamseg import run
from streamseg.outputs import VideoOutput

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "samples" / "street.mp4"
_PLAIN = 40
"""Frame of the clip that is the sample picture."""
_FIRST, _FRAMES, _FPS = 30, 40, 10
_SIZE = (576, 432)
"""Of the animation: width, height."""


def main() -> None:
    """Write them anew."""
    frames = read(CLIP)
    frames[_PLAIN].save(ROOT / "samples" / "street.jpg", quality=90)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "overlay.mp4"
        for _ in run(CLIP, outputs=[VideoOutput(str(video))]):
            pass
        painted = read(video)[_FIRST : _FIRST + _FRAMES]
    small = [picture.resize(_SIZE, Image.Resampling.LANCZOS) for picture in painted]
    target = ROOT / "docs" / "assets" / "street.webp"
    milliseconds = 1000 // _FPS
    small[0].save(
        target, save_all=True, append_images=small[1:], duration=milliseconds, loop=0, quality=60, method=6
    )


def read(clip: Path) -> list[Image.Image]:
    """All pictures of a clip."""
    with av.open(str(clip)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


if __name__ == "__main__":
    main()
