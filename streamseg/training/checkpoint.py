"""The state of a run after some step, and the checkpoint file that holds it."""

import hashlib
import json
import logging
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from lightning_fabric.plugins.precision import Precision

from streamseg.errors import UsageError
from streamseg.files import complete_file
from streamseg.models.nets.detector import Detector
from streamseg.training.config import TrainConfig, flatten
from streamseg.training.optimisation import Plan

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
_FORMAT = 2
"""Version of the file's content."""

_LENGTHS = ("steps", "epochs")
_OF_LENGTH = tuple(f"schedule.{key}" for key in _LENGTHS)
_FREE_KEYS = (
    *("output", "workers", "device", "devices", "strategy", "evaluation"),
    *("data.images", "data.train", "data.val", "content of data.val", "data.val_images", "data.cache_gib"),
    *("schedule.accumulate", "schedule.checkpoint_minutes"),
)
"""Keys that may change when a run is resumed, as its length may: they say where and how it is computed. The
content of the training set's annotation file may not change, see :class:`Fingerprint`."""
_OF_SCORES = ("content of data.val", "evaluation.images")
"""Keys that say on which images the weights are scored."""


@dataclass(slots=True)
class TrainingState:
    """Everything that a checkpoint holds.

    Random numbers need no place in it: only the loader draws any, from the seed and the sample's number.
    """

    detector: Detector
    average: Detector
    """Exponential moving average of the detector: what is evaluated and shipped."""
    optimizer: torch.optim.Optimizer
    precision: Precision
    """Holds the loss scale of fp16."""
    step: int = 0
    """Steps taken."""
    best: float = -1.0
    """Highest mean AP of the average so far, in [0, 1], on the same images each time; -1 before the first
    evaluation."""

    def save(self, path: Path, config: dict[str, Any]) -> None:
        """Write a checkpoint atomically; ``config`` is the run's fingerprint."""
        content = {
            "format": _FORMAT,
            "config": config,
            "detector": self.detector.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "step": self.step,
            "best": self.best,
        }
        with complete_file(path) as partial:
            torch.save(content, partial)

    def load(self, path: Path, fingerprint: "Fingerprint") -> dict[str, Any]:
        """Continue from a checkpoint; returns the keys of its run.

        Raises UsageError if the file is damaged or belongs to a run with another fingerprint, and
        names the keys that differ.
        """
        content = _read(path)
        if content.get("format") != _FORMAT:
            raise UsageError(f"{path}: a checkpoint of another version; start anew without --resume")
        try:
            before: dict[str, Any] = content["config"]
            differing = fingerprint.differences(before)
            if differing:
                raise UsageError(
                    f"{path}: belongs to a run with another configuration: {'; '.join(differing)}. Resume "
                    "with that one, or give this run another output"
                )
            self.detector.load_state_dict(content["detector"])
            self.average.load_state_dict(content["average"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.precision.load_state_dict(content["precision"])
            self.step, self.best = int(content["step"]), float(content["best"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise UsageError(f"{path}: a damaged checkpoint ({type(error).__name__}: {error})") from error
        return before


def _read(path: Path) -> dict[str, Any]:
    """What a checkpoint file holds. Raises UsageError if it is none, or not as it was written."""
    try:
        with ZipFile(path) as archive:
            damaged = archive.testzip()  # torch writes checksums and does not compare them
        if damaged is not None:
            raise UsageError(f"{path}: a damaged checkpoint (the checksum of {damaged} differs)")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError, BadZipFile, zlib.error) as error:
        raise UsageError(f"{path}: not a readable checkpoint, damaged or cut off ({error})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: not a readable checkpoint (it holds a {type(content).__name__})")
    return content


class CheckpointFile:
    """The checkpoint file of a run, and when it is written."""

    def __init__(self, config: TrainConfig, state: TrainingState) -> None:
        self._path = config.output / CHECKPOINT
        self._state = state
        self._fingerprint = Fingerprint.of(config)
        self._seconds = config.schedule.checkpoint_minutes * 60
        self._saved = time.monotonic()

    @property
    def late(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved > self._seconds

    def exists(self) -> bool:
        """Whether there is one to go on from."""
        return self._path.is_file()

    def save(self) -> None:
        """Write the state."""
        self._state.save(self._path, self._fingerprint.keys)
        self._saved = time.monotonic()

    def load(self, plan: Plan) -> None:
        """Set the state to that of the file and say if ``plan`` is longer or shorter than it was.

        If the weights are scored on other images than before, their best score is forgotten. Raises
        UsageError for another run's file, and for a plan that ends before it.
        """
        before = self._state.load(self._path, self._fingerprint)
        step = self._state.step
        if step > plan.steps:
            raise UsageError(
                f"{self._path}: has taken {step} steps, more than the {plan.steps} of the schedule: give it "
                "more, or this run another output"
            )
        logger.info("resumed after step %d", step)
        _say_other_length(before, plan, step)
        other = [key for key in _OF_SCORES if before.get(key) != self._fingerprint.keys[key]]
        if other and self._state.best >= 0:
            self._state.best = -1.0
            logger.warning("%s changed: which weights are the best is found anew", " and ".join(other))


def _say_other_length(before: Mapping[str, Any], plan: Plan, step: int) -> None:
    """What another length of the run does to the learning rate."""
    lengths = {key: before.get(f"schedule.{key}") for key in _LENGTHS}
    old = Plan.of(plan.schedule.model_copy(update=lengths), images=plan.images)
    if old.steps == plan.steps:
        return
    rate, other = plan.learning_rate(step), old.learning_rate(min(step, old.steps - 1))
    why = "" if plan.schedule.decay == "steps" else ", because the cosine is stretched over the whole length"
    logger.warning(
        "the run is %d steps long now, not %d: at step %d the learning rate goes from %.2e to %.2e%s",
        *(plan.steps, old.steps, step, other, rate, why),
    )


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """All that decides what a run computes, by dotted key; of the annotations the content too."""

    keys: dict[str, Any]
    given: frozenset[str]
    """Those whose value is not the default."""

    @classmethod
    def of(cls, config: TrainConfig) -> "Fingerprint":
        """That of a configuration."""
        keys = flatten(config.model_dump(mode="json"))
        given = flatten(config.model_dump(mode="json", exclude_defaults=True))
        contents = {
            f"content of data.{name}": None if path is None else _digest(path)
            for name, path in (("train", config.data.train), ("val", config.data.val))
        }
        return cls(keys | contents, frozenset(given))

    def differences(self, then: Mapping[str, Any]) -> list[str]:
        """What differs from the keys of a checkpoint and may not: ``model.head.convs was 2 and is 3``.

        A key that the checkpoint lacks had its default.
        """
        free = _FREE_KEYS + (_OF_LENGTH if self._same_unit(then) else ())
        keys = [
            key
            for key in {**then, **self.keys}
            if not any(key == f or key.startswith(f"{f}.") for f in free)
            and (then[key] != self.keys.get(key) if key in then else key in self.given)
        ]
        return [f"{key} was {_short(then.get(key))} and is {_short(self.keys.get(key))}" for key in keys]

    def _same_unit(self, then: Mapping[str, Any]) -> bool:
        """Whether milestones, if there are any, are counted in steps or epochs as they were."""
        unit = "schedule.steps"
        return not self.keys["schedule.milestones"] or (then.get(unit) is None) == (self.keys[unit] is None)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
