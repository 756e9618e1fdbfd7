"""The folder of a run: its weights files; and what an earlier run left there is put aside whole."""

import logging
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from streamseg.errors import RunError, UsageError
from streamseg.models.nets.detector import Detector
from streamseg.models.weights.files import save_weights, too_large_for_half
from streamseg.training.checkpoint import CHECKPOINT
from streamseg.training.config import TrainConfig

logger = logging.getLogger(__name__)

_OF_A_RUN = ("checkpoint.*", "*.safetensors", "log.csv", "evaluation.*", "tensorboard")


def check_output(config: TrainConfig, *, resume: bool) -> None:
    """Make sure, before anything is read, that the folder can be used.

    Raises UsageError if it cannot be made or written, or would be put aside together with what the run
    reads.
    """
    output = config.output
    try:
        place = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    except OSError as error:
        raise UsageError(f"output {output}: cannot be a folder ({error.strerror})") from error
    if not place.is_dir():
        raise UsageError(f"output {output}: cannot be a folder, {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UsageError(f"output {output}: cannot be made or written, {place} does not let this user")
    if is_used(output) and not (resume and (output / CHECKPOINT).is_file()):
        for key, path in _inputs(config):
            if path.resolve().is_relative_to(output.resolve()):
                raise UsageError(
                    f"output {output}: holds an earlier run, which would be put aside together with {key} "
                    f"({path}); give this run another output"
                )


def is_used(output: Path) -> bool:
    """Whether an earlier run has left something in a folder."""
    return any(next(output.glob(pattern), None) is not None for pattern in _OF_A_RUN)


def start_anew(output: Path) -> None:
    """Make the folder; one that an earlier run used gets another name first.

    Its best weights would otherwise pass for those of this run, and starting anew may have been a mistake.
    """
    try:
        if output.is_dir() and is_used(output):
            output = Path(os.path.abspath(output))
            aside = next(p for n in count(1) if not (p := output.with_name(f"{output.name}.{n}")).exists())
            output.rename(aside)
            logger.warning("starting anew; %s of the run before is now %s", output, aside)
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"output {output}: cannot be put aside ({error.strerror})") from error


def write_weights(average: Detector, path: Path, *, notes: dict[str, str]) -> None:
    """Write a weights file in fp16; in float32, with a warning, if a value is too large for fp16.

    A run must not end for that: it would end there again each time that it goes on. Raises OutputError.
    """
    large = too_large_for_half(average)
    if large is not None:
        logger.warning("%s is float32: tensor %s holds values too large for fp16", path, large)
    save_weights(average, path, half=large is None, notes=notes)


def _inputs(config: TrainConfig) -> Iterator[tuple[str, Path]]:
    """What a run reads, by its key."""
    data = config.data
    given = {
        "data.images": data.images,
        "data.train": data.train,
        "data.val": data.val,
        "data.val_images": data.val_images,
        "initial_weights": config.initial_weights,
        "backbone_weights": config.backbone_weights,
        "the working directory": Path.cwd(),
    }
    yield from ((key, Path(path)) for key, path in given.items() if path is not None)
