"""One step: the losses of the images of all processes and parts, and one change of the weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor, nn

from streamseg.errors import RunError
from streamseg.models.nets.backbones import freeze_backbone
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import InputSpec
from streamseg.training.checkpoint import TrainingState
from streamseg.training.config import ScheduleConfig
from streamseg.training.data.batch import TrainingBatch
from streamseg.training.losses import PositiveCounts, solo_loss
from streamseg.training.optimisation import Average, Plan, set_learning_rate
from streamseg.training.report.run_report import StepReport

_NAMES = 16
"""Most images named when a step fails."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step gives, the same in all processes."""

    report: StepReport
    stop: bool
    """Whether one of them was asked to stop."""


class Stepper:
    """Takes steps with a state; all processes call it together."""

    def __init__(self, fabric: Fabric, plan: Plan, state: TrainingState) -> None:
        self._fabric, self._plan, self._state = fabric, plan, state
        self._average = Average(state.average, state.detector, decay=plan.schedule.ema_decay)
        objective = Objective(state.detector, plan.schedule, memory_format(fabric))
        self._objective, self._optimizer = fabric.setup(objective, state.optimizer)
        self._objective.train()

    def __call__(self, parts: Sequence[TrainingBatch], *, stop: bool) -> StepResult:
        """Take one step; ``stop`` says that this process was asked to stop after it.

        Raises RunError if the loss or its gradient is not finite: the weights are then left as they
        were.
        """
        fabric, state = self._fabric, self._state
        counts, stopping = self._counts(parts, stop=stop)
        rate = self._plan.learning_rate(state.step)
        set_learning_rate(state.optimizer, rate)
        losses = []
        for number, batch in enumerate(parts, start=1):
            with fabric.no_backward_sync(self._objective, enabled=number < len(parts)):
                loss = self._objective(StepPart(batch, counts))
                # Fabric takes the mean of the gradients over the processes; the shares are a sum.
                fabric.backward(loss.sum() * fabric.world_size)
            losses.append(loss.detach())
        limit = self._plan.schedule.clip_norm or math.inf
        norm = fabric.clip_gradients(
            self._objective, self._optimizer, max_norm=limit, error_if_nonfinite=False
        )
        mask, classes = self._sum(torch.stack(losses).sum(dim=0)).tolist()
        self._check(parts, losses, math.isfinite(mask + classes), norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._average.update(state.step)
        state.step += 1
        images = fabric.world_size * sum(len(batch.names) for batch in parts)
        return StepResult(StepReport(mask, classes, rate, images), stopping)

    def _sum(self, value: Tensor) -> Tensor:
        """The sum over the processes."""
        total = self._fabric.all_reduce(value, reduce_op="sum")
        assert isinstance(total, Tensor)
        return total

    def _counts(self, parts: Sequence[TrainingBatch], *, stop: bool) -> tuple[PositiveCounts, bool]:
        """The counts of the whole step, known before the network has run; and whether to stop."""
        counts = [sum(b.counts.masks for b in parts), sum(b.counts.cells for b in parts), int(stop)]
        if self._fabric.world_size > 1:  # alone, a GPU need not be waited for
            counts = self._sum(torch.tensor(counts, device=self._fabric.device)).tolist()
        masks, cells, stops = counts
        return PositiveCounts(masks, cells), stops > 0

    def _check(
        self, parts: Sequence[TrainingBatch], losses: Sequence[Tensor], finite: bool, norm: Tensor | None
    ) -> None:
        # An overflow of fp16 gradients is no fault: the scaler skips the step and lowers its scale.
        scaled = bool(self._state.precision.state_dict())
        if finite and (scaled or norm is None or bool(torch.isfinite(norm))):
            return
        bad = [n for b, loss in zip(parts, losses, strict=True) if not loss.isfinite().all() for n in b.names]
        names = self._gather(bad) or self._gather([n for b in parts for n in b.names])
        what = "the gradient of the loss" if finite else "the loss"
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        raise RunError(
            f"step {self._state.step + 1}: {what} is not finite on the images {', '.join(names[:_NAMES])}"
            f"{more}; look at them and their annotations, or lower schedule.learning_rate. --resume goes on "
            "from the last checkpoint"
        )

    def _gather(self, names: list[str]) -> list[str]:
        if self._fabric.world_size == 1:
            return names
        shares: list[list[str]] = [[] for _ in range(self._fabric.world_size)]
        torch.distributed.all_gather_object(shares, names)
        return [name for share in shares for name in share]


class StepPart:
    """A part of a step: some of its images and the counts of all of them.

    Not a dataclass, whose tensors Fabric would convert.
    """

    def __init__(self, batch: TrainingBatch, counts: PositiveCounts) -> None:
        self.batch, self.counts = batch, counts


class Objective(nn.Module):
    """The network and its losses as one module: what is minimised.

    The network runs in autocast's precision, the losses in float32.
    """

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

    def forward(self, part: StepPart) -> Tensor:
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
                counts=part.counts,
            )
        return torch.stack((losses.mask, losses.classes))


def memory_format(fabric: Fabric) -> torch.memory_format:
    """The layout of weights and images in memory that makes a step fastest.

    Channels last, except for float32 on a CPU: there oneDNN computes the gradient of a 3x3 kernel in half the
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
