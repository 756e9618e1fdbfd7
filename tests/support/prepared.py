"""Pictures as a network takes them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamseg.inference.prepare import HostPreparer
from streamseg.masks.upsample import Geometry
from streamseg.models.spec import InputSpec


def network_input(pictures: Sequence[NDArray[np.uint8]], spec: InputSpec, canvas: tuple[int, int]) -> Tensor:
    """(B, 3, *canvas) float32 of B pictures that have their size already."""
    sizes = [Geometry(picture.shape[:2], picture.shape[:2], canvas) for picture in pictures]
    preparation = HostPreparer(spec, dtype=torch.float32).start(pictures, sizes)
    preparation.wait()
    return preparation.build()
