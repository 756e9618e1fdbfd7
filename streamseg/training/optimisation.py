"""The length of a run, its learning rate at every step, the optimizer, and the average of the weights."""

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from streamseg.models.nets.detector import Detector
from streamseg.training.config import EvaluationConfig, ScheduleConfig


@dataclass(frozen=True, slots=True)
class Plan:
    """A schedule counted out in steps for a certain number of images."""

    schedule: ScheduleConfig
    images: int
    """How many there are in an epoch."""
    steps: int
    """Length of the run."""
    milestones: tuple[int, ...]
    """Steps at which the learning rate falls."""

    @classmethod
    def of(cls, schedule: ScheduleConfig, *, images: int) -> "Plan":
        """The plan of a schedule."""

        def count(length: float) -> int:
            return epoch_steps(schedule, length, images) if schedule.steps is None else round(length)

        length = schedule.epochs if schedule.steps is None else schedule.steps
        assert length is not None
        return cls(schedule, images, count(length), tuple(sorted(count(m) for m in schedule.milestones)))

    def learning_rate(self, step: int) -> float:
        """Of step 0, 1, ..., before the factor of a group.

        Linear warm-up from ``warmup_ratio``, and either a cosine down to 1 % at the last step or a
        drop at every milestone.
        """
        schedule = self.schedule
        if schedule.decay == "cosine":
            part = (step - schedule.warmup_steps) / max(1, self.steps - schedule.warmup_steps)
            factor = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, part))))
        else:
            factor = schedule.milestone_factor ** bisect_right(self.milestones, step)
        if step < schedule.warmup_steps:
            ratio = schedule.warmup_ratio
            factor *= ratio + (1 - ratio) * step / schedule.warmup_steps
        return schedule.learning_rate * factor


def epoch_steps(schedule: ScheduleConfig, epochs: float, images: int) -> int:
    """Steps in so many epochs, at least 1."""
    return max(1, math.ceil(epochs * images / schedule.batch))


def evaluation_interval(evaluation: EvaluationConfig, schedule: ScheduleConfig, *, images: int) -> int | None:
    """Steps from one evaluation to the next; None: only at the end."""
    if evaluation.every_epochs is not None:
        return epoch_steps(schedule, evaluation.every_epochs, images)
    return evaluation.every_steps


def build_optimizer(detector: Detector, schedule: ScheduleConfig) -> torch.optim.Optimizer:
    """AdamW or SGD over the parameters that are not frozen; each group holds its ``factor``.

    AdamW decays convolution kernels only. SGD decays everything, as the published models do.
    """
    groups = _groups(detector, schedule)
    if schedule.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=schedule.learning_rate, momentum=schedule.momentum)
    return torch.optim.AdamW(groups, lr=schedule.learning_rate)


def _groups(detector: Detector, schedule: ScheduleConfig) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = []
    parts = {"backbone": schedule.backbone_factor, "start": schedule.start_factor, "rest": 1.0}
    for part, factor in parts.items():
        for kernels in (True, False):
            chosen = [
                p
                for name, p in detector.named_parameters()
                if p.requires_grad and _part(name) == part and (p.ndim > 1) == kernels
            ]
            decay = schedule.weight_decay if kernels or schedule.optimizer == "sgd" else 0.0
            groups.append({"params": chosen, "weight_decay": decay, "factor": factor})
    return [group for group in groups if group["params"]]


def _part(name: str) -> str:
    """Which learning rate a parameter has: that of the backbone, of what may begin trained, of the rest."""
    if name.startswith("backbone."):
        return "backbone"
    return "start" if name.startswith(("neck.", "head.class_", "head.box_")) else "rest"


# The rate is a function of the step alone, and no checkpoint holds it. torch's schedulers keep a state of
# their own, their chained forms add up rounding errors, and all of them warn if fp16 skips the first step.
def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group ``rate`` times its factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


class Average:
    """The exponential moving average of a module's trained parameters, kept in another module.

    torch's AveragedModel would copy the first weights instead of averaging them, and keeps its count of
    updates in a tensor: a decay that grows with it makes the host wait for a GPU at every step.
    """

    def __init__(self, average: nn.Module, module: nn.Module, *, decay: float) -> None:
        """``average`` starts as a copy of ``module``; what is frozen stays equal in both."""
        pairs = [
            (mean, value)
            for mean, value in zip(average.parameters(), module.parameters(), strict=True)
            if value.requires_grad
        ]
        self._means = [mean for mean, _ in pairs]
        self._values = [value for _, value in pairs]
        self._decay = decay

    def update(self, step: int) -> None:
        """Take in the weights that step 0, 1, ... leaves."""
        # Early weights are soon forgotten: the decay grows with the steps taken.
        decay = min(self._decay, (1 + step) / (10 + step))
        get_ema_multi_avg_fn(decay)(self._means, self._values, 0)  # the 0 is not looked at
