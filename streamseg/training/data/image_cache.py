"""The pixels of the training images: read from disk each time, or kept in memory."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from streamseg.training.data.coco import CocoImage

logger = logging.getLogger(__name__)

_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class ImageCache:
    """Decoded images by their path. Processes that are forked afterwards share those kept in memory."""

    def __init__(self) -> None:
        self._kept: dict[Path, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, image: CocoImage) -> NDArray[np.uint8]:
        """(height, width, 3) RGB; not to be changed. Raises UsageError if it cannot be read."""
        kept = self._kept.get(image.path)
        return image.read() if kept is None else kept

    def keep(self, images: Sequence[CocoImage], *, budget: int, progress: bool) -> None:
        """Read all images now if their pixels fit into ``budget`` bytes; otherwise none."""
        files = {image.path: image for image in images}
        needed = sum(3 * image.height * image.width for image in files.values())
        if needed > budget:
            logger.info(
                "images are read from disk each time: they need %.1f GiB, data.cache_gib allows %.1f",
                needed / 2**30,
                budget / 2**30,
            )
            return
        with ThreadPoolExecutor() as threads:  # Pillow decodes without holding the interpreter
            pixels = threads.map(CocoImage.read, files.values())
            bar = tqdm(pixels, "reading", len(files), unit="image", disable=not progress)
            self._kept = dict(zip(files, bar, strict=True))


def free_memory() -> int:
    """Bytes of memory that are free, in the container if there is one; 0 where that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    return min([available, *_container_memory()])


def _container_memory() -> list[int]:
    free = []
    for limit, used in _CGROUPS:
        try:
            free.append(max(0, int(Path(limit).read_text()) - int(Path(used).read_text())))
        except (OSError, ValueError):  # no such group, or its limit is "max"
            continue
    return free
