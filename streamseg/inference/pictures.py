"""What a user calls a picture, as the (H, W, 3) uint8 RGB that the network is prepared from.

Arrays are (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA. Tensors may be that or have their channels
first, as torchvision reads them; a tensor whose first and last dimension could both be channels, as
(3, W, 3), has them first. What is transparent is painted over black.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

PictureLike = NDArray[np.uint8] | Tensor | Image.Image | str | os.PathLike[str]
"""One picture: an array, a tensor on any device, a PIL picture, or the path of a file."""

MAX_PIXELS = 1 << 26
"""Of a file, as for videos: twice what 8K has. A header can claim any size."""
_TOO_LARGE = f"is too large, at most {MAX_PIXELS >> 20} Mi pixels"
_CHANNELS = (1, 3, 4)
_DEEP = ("I", "F")
"""Beginnings of PIL's modes for more than 8 bits: which value is white is not known."""
_WANTED = (
    "wanted is uint8 (height, width, 3) RGB, (height, width) or (height, width, 1) gray, or "
    "(height, width, 4) RGBA; of a torch tensor also with the channels first; a PIL picture; the path of a "
    "picture; or a list of these"
)


def to_rgb(picture: PictureLike) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB of anything that can be taken for a picture.

    PIL pictures and files are turned upright as their EXIF data say.

    Raises:
        TypeError: It is no picture, or its values are not 8-bit numbers.
        ValueError: Its shape is that of no picture, or the file cannot be read.
    """
    if isinstance(picture, str | os.PathLike):
        return _read(Path(picture))
    if isinstance(picture, Image.Image):
        return _from_pil(picture, "a PIL picture")
    if isinstance(picture, Tensor):
        return _from_array(_from_tensor(picture), "a tensor")
    if isinstance(picture, np.ndarray):
        return _from_array(picture, "an array")
    raise TypeError(f"{type(picture).__name__} is no picture: {_WANTED}")


def _from_array(array: NDArray[Any], what: str) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        raise TypeError(f"{what} of {array.dtype}: {_WANTED}")
    if array.ndim not in {2, 3} or not array.size or (array.ndim == 3 and array.shape[2] not in _CHANNELS):
        raise ValueError(f"{what} of shape {tuple(array.shape)}: {_WANTED}")
    if array.ndim == 2 or array.shape[2] == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(_on_black(array) if array.shape[2] == 4 else array)


def _from_tensor(tensor: Tensor) -> NDArray[Any]:
    """The tensor in host memory, channels last."""
    if tensor.dtype != torch.uint8:
        raise TypeError(f"a tensor of {str(tensor.dtype).removeprefix('torch.')}: {_WANTED}")
    if tensor.is_meta or tensor.layout != torch.strided:
        raise TypeError(f"a tensor {'without values' if tensor.is_meta else 'that is sparse'}: {_WANTED}")
    if tensor.ndim == 3 and tensor.shape[0] in _CHANNELS:
        tensor = tensor.permute(1, 2, 0)
    return tensor.detach().cpu().numpy()


def _on_black(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 4) -> (H, W, 3), rounded."""
    lit = rgba[..., :3].astype(np.uint16) * rgba[..., 3:]
    return ((lit + 127) // 255).astype(np.uint8)


def _from_pil(picture: Image.Image, what: str) -> NDArray[np.uint8]:
    if picture.mode.startswith(_DEEP):
        raise TypeError(f"{what} of mode {picture.mode}, which is not 8 bits a pixel: {_WANTED}")
    if not picture.width or not picture.height:
        raise ValueError(f"{what} of {picture.width}x{picture.height}: {_WANTED}")
    upright = ImageOps.exif_transpose(picture)
    mode = "RGBA" if upright.has_transparency_data else "RGB"
    return _from_array(np.asarray(upright.convert(mode)), what)


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise ValueError(f"{path}: {picture.width}x{picture.height} {_TOO_LARGE}")
            return _from_pil(picture, f"{path}: a picture")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path}: {_TOO_LARGE}") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not a picture that can be read; streamseg.run takes videos") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
