"""What is minimised: the network and its loss as one module."""

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from streamseg.models.nets.backbones import freeze_backbone
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import InputSpec
from streamseg.training.config import ScheduleConfig
from streamseg.training.data.batch import TrainingBatch
from streamseg.training.losses import Normaliser, solo_loss


class Part:
    """A part of a step: some of its images and the counts of all of them.

    Not a dataclass, whose tensors Fabric would convert.
    """

    def __init__(self, batch: TrainingBatch, counts: Normaliser) -> None:
        self.batch, self.counts = batch, counts


class Objective(nn.Module):
    """Losses of a part. The network runs in autocast's precision, the losses in float32."""

    def __init__(
        self, detector: Detector, schedule: ScheduleConfig, memory_format: torch.memory_format
    ) -> None:
        super().__init__()
        self.detector = detector
        self._schedule = schedule
        self._memory_format = memory_format

    def train(self, mode: bool = True) -> "Objective":
        """Batch norms stay in evaluation mode, and frozen stages frozen."""
        super().train(mode)
        freeze_backbone(self.detector.backbone, stages=self._schedule.frozen_stages)
        return self

    def forward(self, part: Part) -> Tensor:
        """(2,) float32: mask loss and class loss, this part's share of the whole step's."""
        batch = part.batch
        images = normalise(batch.images, batch.sizes, self.detector.spec.input)
        output = self.detector(images.contiguous(memory_format=self._memory_format))
        with torch.autocast(batch.images.device.type, enabled=False):
            losses = solo_loss(
                output,
                batch.targets,
                class_weights=batch.class_weights,
                mask_loss=self._schedule.mask_loss,
                mask_weight=self._schedule.mask_weight,
                normaliser=part.counts,
            )
        return torch.stack((losses.mask, losses.classes))


def memory_format(fabric: Fabric) -> torch.memory_format:
    """The order of weights and pictures in memory that a step is fastest in.

    Channels last, but for float32 on a CPU: there oneDNN computes the gradient of a 3x3 kernel in half the
    time with the channels first, a step of the bundled model in 0.8 of it (AVX2).
    """
    full = fabric.strategy.precision.precision == "32-true"
    return torch.contiguous_format if fabric.device.type == "cpu" and full else torch.channels_last


def normalise(images: Tensor, sizes: Sequence[tuple[int, int]], spec: InputSpec) -> Tensor:
    """(B, H, W, 3) uint8 RGB -> (B, 3, H, W) float32, channels last in memory, 0 beyond each image's size."""
    mean, std = (torch.tensor(v, device=images.device) for v in (spec.mean, spec.std))
    normal = (images.float() - mean) / std
    for image, (height, width) in zip(normal, sizes, strict=True):
        image[height:] = 0
        image[:, width:] = 0
    return normal.permute(0, 3, 1, 2)
