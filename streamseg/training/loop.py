"""The training loop, on Lightning Fabric: one process or many.

A step takes ``schedule.batch`` images. They are split among the processes, and each process's share
into ``schedule.accumulate`` parts; the losses are divided by the counts of the whole step, so with
``model.input.canvas`` the weights become the same however it is split. Without a canvas the images of a part
are padded to the largest of them: how it is split decides what is padded, and grids lie otherwise.
"""

import copy
import logging
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.rank_zero import rank_zero_only
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from streamseg.models.nets.detector import Detector
from streamseg.training.checkpoint import CheckpointFile, TrainingState
from streamseg.training.config import TrainConfig
from streamseg.training.data.batch import TrainingBatch
from streamseg.training.data.dataset import TrainingStream
from streamseg.training.data.image_cache import ImageCache, free_memory
from streamseg.training.data.loader import make_loader, read_batches
from streamseg.training.data.splits import Splits, read_splits
from streamseg.training.initial import load_initial_weights
from streamseg.training.optimisation import Plan, build_optimizer
from streamseg.training.output import check_output, start_anew, write_weights
from streamseg.training.processes import (
    SignalForwarder,
    StopRequest,
    configure_spawned,
    make_fabric,
    quieten_spawned,
    spawned_error,
    spawns,
)
from streamseg.training.report.run_report import TABLE, RunReport
from streamseg.training.step import Stepper, memory_format
from streamseg.training.validation import BEST, MakeSegment, Validator

logger = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run leaves behind."""

    weights: Path
    """File of the averaged weights after the last step; missing if the run was stopped before it."""
    best: Path | None
    """Those with the highest mean AP on the validation images, if there are any."""
    table: str | None
    """The last evaluation, a Markdown table."""
    steps: int
    """Steps taken, with those of earlier runs that this one resumed; 0 if it was stopped before it began."""
    signal: int | None
    """The signal that stopped the run before its end."""
    main: bool
    """False in every process but the first, where several run the program (strategy ddp, torchrun)."""


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    progress: bool = True,
    make_segment: MakeSegment | None = None,
) -> Outcome:
    """Run the whole schedule; SIGINT and SIGTERM stop it after a step, with a checkpoint.

    Leaves weights, checkpoint and reports in ``config.output``. Without ``make_segment`` nothing is
    evaluated. Raises UsageError for a bad configuration or bad data, RunError when the loss is not
    finite.
    """
    fabric = make_fabric(config)
    check_output(config, resume=resume)
    # torchrun has started the others already; they stop with this one.
    splits = read_splits(config, again=getattr(rank_zero_only, "rank", 0) != 0, progress=progress)
    waits = spawns(config)
    options = _Options(
        resume, progress, make_segment, logging.getLogger().getEffectiveLevel() if waits else None
    )
    run = partial(_run, config=config, splits=None if waits else splits, options=options)
    steps, stopped_by = _spawn(fabric, run) if waits else fabric.launch(run)
    best, table = config.output / BEST, config.output / TABLE
    return Outcome(
        weights=config.output / WEIGHTS,
        best=best if best.is_file() else None,
        table=table.read_text().rstrip() if table.is_file() else None,
        steps=steps,
        signal=stopped_by,
        main=waits or fabric.is_global_zero,
    )


def _spawn(fabric: Fabric, run: Callable[[Fabric], tuple[int, int | None]]) -> tuple[int, int | None]:
    """What ``run`` returns in processes of its own. Raises the error of one that fails."""
    quieten_spawned()
    with SignalForwarder() as stop:
        try:
            result: tuple[int, int | None] = fabric.launch(run)
        except (ProcessRaisedException, ProcessExitedException) as error:
            # A process that is told to stop before it listens to signals just ends.
            if isinstance(error, ProcessExitedException) and stop.signal is not None:
                return 0, stop.signal
            raise spawned_error(error) from error
    return result


@dataclass(frozen=True, slots=True)
class _Options:
    resume: bool
    progress: bool
    make_segment: MakeSegment | None
    log_level: int | None
    """Of a spawned process."""


def _run(
    fabric: Fabric, *, config: TrainConfig, splits: Splits | None, options: _Options
) -> tuple[int, int | None]:
    """A whole run in each process; a spawned one reads the annotations itself.

    Returns the steps taken, and the signal that stopped the run before its end. (A dataclass would
    not get through Fabric.)
    """
    if options.log_level is not None:
        configure_spawned(options.log_level, first=fabric.is_global_zero)
    return _Run(fabric, config, splits or read_splits(config, again=True), options).go()


class _Run:
    """A run, as one of its processes sees it."""

    def __init__(self, fabric: Fabric, config: TrainConfig, splits: Splits, options: _Options) -> None:
        self._fabric, self._config, self._options = fabric, config, options
        self._plan = Plan.of(config.schedule, images=len(splits.train))
        self._state = first_state(fabric, config)
        self._step = Stepper(fabric, self._plan, self._state)
        self._checkpoint = CheckpointFile(config, self._state)
        if options.resume and self._checkpoint.exists():
            self._checkpoint.load(self._plan)
        elif fabric.is_global_zero:
            start_anew(config.output)
        self._validate = Validator(
            fabric, config, splits, self._plan, make_segment=options.make_segment, progress=options.progress
        )
        self._stream = TrainingStream(
            splits.train, config, _cached_images(fabric, config, splits, progress=options.progress)
        )

    def go(self) -> tuple[int, int | None]:
        """Take the steps that are left, and write the weights after the last one."""
        fabric, state = self._fabric, self._state
        with self._report() as report, StopRequest(spawned=self._options.log_level is not None) as stop:
            for parts in self._parts():
                taken = self._step(parts, stop=stop.wanted)
                report.step(state.step, taken.report)
                stopped = taken.stop and state.step < self._plan.steps
                self._after_step(report, last=stopped or state.step == self._plan.steps)
                if stopped:
                    return state.step, stop.signal or signal.SIGTERM
        if fabric.is_global_zero:
            write_weights(state.average, self._config.output / WEIGHTS, notes={"steps": str(state.step)})
        return state.step, None

    def _report(self) -> RunReport:
        return RunReport(
            self._config.output,
            self._config.model.classes,
            step=self._state.step,
            steps=self._plan.steps,
            overlays=self._config.evaluation.overlays,
            active=self._fabric.is_global_zero,
            progress=self._options.progress,
        )

    def _parts(self) -> Iterator[list[TrainingBatch]]:
        """This process's parts of every step that is left."""
        device = self._fabric.device
        loader = make_loader(
            self._stream,
            self._config,
            first=self._state.step,
            steps=self._plan.steps,
            rank=self._fabric.global_rank,
            pin=device.type == "cuda",
        )
        batches = read_batches(loader)
        while parts := [b.unpack(device) for b in islice(batches, self._config.schedule.accumulate)]:
            yield parts

    def _after_step(self, report: RunReport, *, last: bool) -> None:
        """Score and save if it is time; a checkpoint always holds what the evaluation before it found."""
        due = self._validate.due(self._state.step)
        if due:
            self._validate(self._state, report)
        elif last:
            report.draw()
        if self._fabric.is_global_zero and (due or last or self._checkpoint.late):
            report.flush()
            self._checkpoint.save()


def first_state(fabric: Fabric, config: TrainConfig) -> TrainingState:
    """The state before the first step, the same in every process."""
    torch.manual_seed(config.seed)
    detector = Detector(config.model)
    with fabric.rank_zero_first():  # one process downloads, the others find the file
        load_initial_weights(detector, config)
    detector = detector.to(memory_format=memory_format(fabric))
    average = copy.deepcopy(detector).requires_grad_(False).eval().to(fabric.device)
    optimizer = build_optimizer(detector, config.schedule)
    return TrainingState(detector, average, optimizer, fabric.strategy.precision)


def _cached_images(fabric: Fabric, config: TrainConfig, splits: Splits, *, progress: bool) -> ImageCache:
    """The images of the training set, in memory if they may be."""
    images, wanted = ImageCache(), config.data.cache_gib
    budget = free_memory() // 4 if wanted is None else int(wanted * 2**30)
    if budget:
        images.keep(
            splits.train,
            budget=budget // fabric.world_size,
            progress=progress and fabric.is_global_zero,
        )
    return images
