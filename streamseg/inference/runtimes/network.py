"""What every runtime offers."""

from typing import Protocol

import torch
from torch import Tensor

from streamseg.models.nets.head import HeadOutput


class Network(Protocol):
    """What computes logits."""

    runtime: str
    """What computes it, and in which precision: ``openvino (bf16)``."""
    dtype: torch.dtype
    """Of the images that it takes."""

    def __call__(self, images: Tensor) -> HeadOutput:
        """(B, 3, H, W) normalised RGB -> logits of B pictures, the caller's own."""
