"""From resized pictures to the network's input."""

import numpy as np
import pytest
import torch

from streamseg.inference.prepare import PictureNormaliser, stack
from streamseg.models.spec import InputSpec


def test_padding_is_zero_after_normalisation() -> None:
    spec = InputSpec(mean=(10, 20, 30), std=(1, 2, 3))
    normalise = PictureNormaliser(spec, device=torch.device("cpu"), dtype=torch.float32)
    white = np.full((2, 3, 3), 40, dtype=np.uint8)
    small = np.full((1, 2, 3), 40, dtype=np.uint8)
    images = normalise(stack([white, small], pinned=False), [(2, 3), (1, 2)], (4, 5))
    assert images.shape == (2, 3, 4, 5)
    assert images[0, :, 0, 0].tolist() == pytest.approx([30, 10, 10 / 3])
    assert images[0, :, 2:].abs().sum() == 0
    assert images[1, :, :1, :2].abs().min() > 0
    assert images[1].abs().sum() == images[1, :, :1, :2].abs().sum()
