"""The network in torch, as it is quickest on a device."""

import torch
from torch import Tensor

from streamseg.inference.devices import PRECISION_NAMES, memory_order
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.head import HeadOutput


class TorchNetwork:
    """A detector on a device, one call for a batch."""

    def __init__(self, folded: Detector, *, device: torch.device, dtype: torch.dtype) -> None:
        """``folded`` is moved there."""
        self.runtime, self.dtype = f"torch ({PRECISION_NAMES[dtype]})", dtype
        self._detector = folded.to(device, dtype).to(memory_format=memory_order(device))
        if device.type == "cuda":
            # The weights got here on the default stream, which the others do not wait for.
            torch.cuda.synchronize(device)

    def __call__(self, images: Tensor) -> HeadOutput:
        """(B, 3, H, W) of ``dtype``, normalised -> logits."""
        output: HeadOutput = self._detector(images)
        return output
