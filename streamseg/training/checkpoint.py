"""The state of a run after some step, and the checkpoint file that holds it."""

import hashlib
import json
import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning_fabric.plugins.precision import Precision

from streamseg.errors import UsageError
from streamseg.files import complete_file
from streamseg.models.nets.detector import Detector
from streamseg.training.config import TrainConfig

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"
_FORMAT = 2
"""Version of the file's content."""

_FREE_KEYS = (
    *("output", "workers", "device", "devices", "strategy", "evaluation"),
    *("data.images", "data.train", "data.val", "data.val_images", "data.cache_gib"),
    *("schedule.accumulate", "schedule.checkpoint_minutes"),
)
"""Keys that may change when a run is resumed: they say where and how it is computed. The content of the
annotation file may not change, see :func:`fingerprint`."""


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
    """Highest mean AP of the average so far, in [0, 1]; -1 before the first evaluation."""

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

    def load(self, path: Path, config: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises UsageError if the file is damaged or belongs to a run with another fingerprint, and
        names the keys that differ.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
            raise UsageError(f"{path}: not a readable checkpoint ({error})") from error
        if content.get("format") != _FORMAT:
            raise UsageError(f"{path}: a checkpoint of another version; start anew without --resume")
        differing = _differences(content["config"], config)
        if differing:
            raise UsageError(
                f"{path}: belongs to a run with another configuration: {'; '.join(differing)}. Resume with "
                f"that one, or give this run another output"
            )
        self.detector.load_state_dict(content["detector"])
        self.average.load_state_dict(content["average"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.precision.load_state_dict(content["precision"])
        self.step, self.best = content["step"], content["best"]


class CheckpointFile:
    """The checkpoint file of a run: when it is written, and what becomes of an earlier one."""

    def __init__(self, config: TrainConfig, state: TrainingState) -> None:
        self._path = config.output / CHECKPOINT
        self._state = state
        self._key = fingerprint(config)
        self._seconds = config.schedule.checkpoint_minutes * 60
        self._saved = time.monotonic()

    @property
    def late(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._saved > self._seconds

    def save(self) -> None:
        """Write the state."""
        self._state.save(self._path, self._key)
        self._saved = time.monotonic()

    def load(self) -> None:
        """Set the state to that of the file, if there is one. Raises UsageError for another run's file."""
        if self._path.is_file():
            self._state.load(self._path, self._key)
            logger.info("resumed after step %d", self._state.step)
        else:
            logger.info("%s is not there: starting from the beginning", self._path)

    def put_aside(self) -> None:
        """Keep the file of an earlier run under another name: starting anew may have been a mistake."""
        if self._path.is_file():
            aside = self._path.with_suffix(".previous.pt")
            os.replace(self._path, aside)
            logger.warning("starting anew; the checkpoint of the run before is kept as %s", aside)


def fingerprint(config: TrainConfig) -> dict[str, Any]:
    """All that decides what a run computes, by dotted key; of the annotations the content, not the path."""
    flat = _flatten(config.model_dump(mode="json"))
    kept = {k: v for k, v in flat.items() if not any(k == f or k.startswith(f"{f}.") for f in _FREE_KEYS)}
    return kept | {"content of data.train": _digest(config.data.train)}


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, dict):
            flat |= _flatten(item, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
    return [f"{key} was {_short(then.get(key))} and is {_short(now.get(key))}" for key in keys]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
