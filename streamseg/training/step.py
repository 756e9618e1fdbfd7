"""One step: the images of all processes and parts change the weights once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor

from streamseg.errors import RunError
from streamseg.training.data.batch import TrainingBatch
from streamseg.training.losses import Normaliser
from streamseg.training.objective import Objective, Part, memory_format
from streamseg.training.optimisation import Average, Plan, set_learning_rate
from streamseg.training.report.sheets import StepReport
from streamseg.training.state import TrainingState

_NAMES = 16
"""So many images are named when a step fails."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What all processes know after a step."""

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
                loss = self._objective(Part(batch, counts))
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

    def _counts(self, parts: Sequence[TrainingBatch], *, stop: bool) -> tuple[Normaliser, bool]:
        """The counts of the whole step, known before the network has run; and whether to stop."""
        counts = [sum(b.counts.masks for b in parts), sum(b.counts.cells for b in parts), int(stop)]
        if self._fabric.world_size > 1:  # alone, a GPU need not be waited for
            counts = self._sum(torch.tensor(counts, device=self._fabric.device)).tolist()
        masks, cells, stops = counts
        return Normaliser(masks, cells), stops > 0

    def _check(
        self, parts: Sequence[TrainingBatch], losses: Sequence[Tensor], finite: bool, norm: Tensor | None
    ) -> None:
        # An overflow of fp16 gradients is no fault: the step is left out and the scale lowered.
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
