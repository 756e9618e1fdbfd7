"""Scoring the averaged weights during a run."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch.distributed
from lightning_fabric import Fabric

from streamseg.models.nets.detector import Detector
from streamseg.training.checkpoint import TrainingState
from streamseg.training.config import TrainConfig
from streamseg.training.data.coco import CocoImage
from streamseg.training.data.splits import Splits
from streamseg.training.evaluation import ClassScore, Row, Segment, make_truth, means, predict, score
from streamseg.training.optimisation import Plan, evaluation_interval
from streamseg.training.output import write_weights
from streamseg.training.report.run_report import RunReport

BEST = "best.safetensors"
MakeSegment = Callable[[Detector, str, str], Segment]
"""From a detector, a device (``cpu``, ``cuda:0``) and a precision (``fp32``, ...) to a segmenter with a
score threshold of 0. The caller gives it, because training does not import inference."""


class Validator:
    """Scores the averaged weights on the validation images; each process takes its share of them."""

    def __init__(
        self,
        fabric: Fabric,
        config: TrainConfig,
        splits: Splits,
        plan: Plan,
        *,
        make_segment: MakeSegment | None,
        progress: bool,
    ) -> None:
        self._fabric, self._config, self._progress = fabric, config, progress
        self._make_segment = make_segment
        self._images = splits.val if make_segment is not None else []
        self._picked = pick_images(self._images, config)
        self._truth = make_truth(splits.truth, crowds=config.data.crowds) if self._images else None
        self._steps = plan.steps
        self._every = evaluation_interval(config.evaluation, config.schedule, images=len(splits.train))

    def due(self, step: int) -> bool:
        """Whether to score after ``step`` steps."""
        if not self._images:
            return False
        return step == self._steps or (self._every is not None and step % self._every == 0)

    def __call__(self, state: TrainingState, report: RunReport) -> None:
        """Score, report, and write the weights if they are the best so far.

        Only scores of the same images can be compared: the end, which takes all of them, counts by those that
        the evaluations before it took.
        """
        assert self._make_segment is not None
        images = self._images if state.step == self._steps else self._picked
        # The segmenter converts the weights and moves them to its device.
        detector = copy.deepcopy(state.average)
        segment = self._make_segment(detector, str(self._fabric.device), self._config.precision)
        share = images[self._fabric.global_rank :: self._fabric.world_size]
        bar = self._progress and self._fabric.is_global_zero
        rows = self._gather(predict(segment, share, self._truth, progress=bar))
        if not self._fabric.is_global_zero:
            return
        scores = self._score(rows, images)
        report.evaluation(state.step, scores)
        report.overlays(state.step, segment, self._images)
        comparable = scores if len(images) == len(self._picked) else self._score(rows, self._picked)
        mean = means(comparable)["AP"]
        if mean > state.best:
            state.best = mean
            notes = {"steps": str(state.step), "AP": f"{mean:.4f}"}
            write_weights(state.average, self._config.output / BEST, notes=notes)

    def _score(self, rows: Sequence[Row], images: Sequence[CocoImage]) -> list[ClassScore]:
        return score(self._truth, rows, images, self._config.model.classes)

    def _gather(self, rows: list[Row]) -> list[Row]:
        """The predictions of all processes, one process after the other."""
        if self._fabric.world_size == 1:
            return rows
        shares: list[Any] = [None] * self._fabric.world_size
        torch.distributed.all_gather_object(shares, rows)
        return [row for share in shares for row in share]


def pick_images(images: Sequence[CocoImage], config: TrainConfig) -> list[CocoImage]:
    """At most ``evaluation.images`` images, evenly picked, by which scores are compared."""
    most = config.evaluation.images
    if most is None or most >= len(images):
        return list(images)
    return [images[i] for i in np.linspace(0, len(images) - 1, most).round().astype(int)]
