"""One picture: which file it is, and its pixels the way its annotations mean them."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from streamseg.errors import UsageError
from streamseg.training.data.problems import Fault

Pixels = NDArray[np.uint8]
_Turn = Callable[[Pixels], Pixels]

_ORIENTATION = 0x0112
"""The tag of EXIF and TIFF."""
_TURNS: dict[int, _Turn] = {
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.swapaxes(0, 1),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}
"""By orientation (EXIF 2.32, section 4.6.5): from the pixels as they are stored to the upright picture."""
_BACK = _TURNS | {6: _TURNS[8], 8: _TURNS[6]}
_THREADS = 4


class PictureFolder:
    """Finds the files of a COCO file's pictures, whose names tools write in several ways."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder = folder
        self._bases = Counter(map(_base, names))

    def find(self, name: str) -> Path:
        """The file of a name: in the folder, or there under the last part of a path or URL.

        The last part counts only if no other picture has it too. A file that is not there gets its
        plain path.
        """
        base = _base(name)
        names = [name, name.replace("\\", "/"), *([base] if base and self._bases[base] == 1 else [])]
        for path in (self._folder / candidate for candidate in names):
            try:
                if path.is_file():
                    return path
            except OSError:  # a name that is too long for any file
                continue
        return self._folder / name


def _base(name: str) -> str:
    path = unquote(urlsplit(name).path) if re.match(r"\w+://", name) else name
    return re.split(r"[/\\]", path)[-1]


def read_image(path: Path, size: tuple[int, int]) -> Pixels:
    """(*size, 3) uint8 RGB; ``size`` (height, width) is what the annotations were made for.

    The picture is turned as its EXIF data says, unless only the pixels as they are stored have that
    size. 16 bits become 8, and what is transparent lies on black. Raises UsageError.
    """
    found = decode(path, size)
    if isinstance(found, Fault):
        raise UsageError(found.text)
    return found


def decode(path: Path, size: tuple[int, int]) -> Pixels | Fault:
    """As :func:`read_image`, with what is wrong as a result."""
    try:
        with Image.open(path) as image:
            orientation = _orientation(image)
            image.load()
            # Pillow turns a TIFF while it loads it, and drops the tag.
            turned = orientation != _orientation(image)
            pixels = _rgb(image)
    except FileNotFoundError:
        return Fault("missing pictures", f"{path} is missing")
    except Exception as error:  # noqa: BLE001  Pillow's readers raise whatever a damaged file makes them meet
        return Fault("unreadable pictures", f"{path} is not a readable image ({_reason(error)})")
    if pixels is None:
        kind = "pictures without a known range of values"
        return Fault(kind, f"{path} has pixels of mode {image.mode}; allowed are 8 and 16 bits")
    return _upright(path, pixels, orientation, size, turned=turned)


def header_size(path: Path) -> tuple[int, int] | None:
    """Height and width of the upright picture, or None if not even that can be read."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            sideways = _orientation(image) > 4 and image.format != "TIFF"
    except Exception:  # noqa: BLE001  as above
        return None
    return (width, height) if sideways else (height, width)


def _orientation(image: Image.Image) -> int:
    found = image.getexif().get(_ORIENTATION, 1)
    return found if found in _TURNS else 1


def _reason(error: Exception) -> str:
    text = str(error).partition("\n")[0]
    return text if text and "cannot identify" not in text else type(error).__name__


def _rgb(image: Image.Image) -> Pixels | None:
    if image.mode in {"I", "F"}:
        return None
    if image.mode.startswith("I;16"):
        gray = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode in {"LA", "PA", "RGBA", "La", "RGBa"} or "transparency" in image.info:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "black"), seen)
    return np.array(image.convert("RGB"))


def _upright(
    path: Path, pixels: Pixels, orientation: int, size: tuple[int, int], *, turned: bool
) -> Pixels | Fault:
    upright = stored = pixels
    if orientation in _TURNS:
        upright = pixels if turned else _TURNS[orientation](pixels)
        stored = _BACK[orientation](pixels) if turned else pixels
    for candidate in (upright, stored):
        if candidate.shape[:2] == size:
            return np.ascontiguousarray(candidate)
    height, width = upright.shape[:2]
    swapped = " (height and width are swapped)" if size == (width, height) else ""
    return Fault(
        "pictures of another size",
        f"{path} is {width} x {height}, the file says {size[1]} x {size[0]}{swapped}",
    )


def decode_all(
    pictures: Sequence[tuple[Path, tuple[int, int]]], *, progress: bool
) -> list[tuple[int, Fault]]:
    """Decode every picture once: the place and the fault of those that cannot be used.

    A header says nothing about the pixels after it: a picture that was cut off while it was copied would
    stop the training that comes to it, or teach grey.
    """
    with ThreadPoolExecutor(_THREADS) as threads:  # Pillow decodes without holding the interpreter
        faults = threads.map(lambda picture: _fault(*picture), pictures)
        bar = tqdm(faults, "checking", len(pictures), unit="image", disable=not progress, leave=False)
        return [(place, fault) for place, fault in enumerate(bar) if fault is not None]


def _fault(path: Path, size: tuple[int, int]) -> Fault | None:
    found = decode(path, size)
    return found if isinstance(found, Fault) else None
