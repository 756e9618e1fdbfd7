"""Detectors from checkpoints of the reference implementations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from streamseg.errors import WeightsError
from streamseg.models.convert.checkpoint import Checkpoint, read_checkpoint
from streamseg.models.convert.infer_spec import infer_model
from streamseg.models.convert.key_maps import Dialect, recognise
from streamseg.models.nets.detector import Detector
from streamseg.models.weights.tensors import TensorError, check_tensors


@dataclass(frozen=True)
class Converted:
    """A detector, and whose checkpoint it was."""

    detector: Detector
    implementation: str


def convert_checkpoint(path: Path, *, classes: Sequence[str] | None = None) -> Converted:
    """The detector in a checkpoint of mmdetection 2.x or 3.x or of the SOLO authors' repository.

    It is in float32 and evaluation mode. The class names are ``classes``; else those in the file's
    metadata, if they are as many as the model has; else see
    :func:`~streamseg.models.convert.infer_spec.infer_model`. Nothing in the file is executed. Raises
    WeightsError that names the file and the first thing that is wrong.
    """
    checkpoint = read_checkpoint(path)
    try:
        return build_detector(checkpoint, classes=classes)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def build_detector(checkpoint: Checkpoint, *, classes: Sequence[str] | None = None) -> Converted:
    """As :func:`convert_checkpoint`, of a checkpoint that was read.

    Raises WeightsError that names a tensor by the file's name and by ours.
    """
    dialect = recognise(checkpoint.tensors)
    keys = _by_our_names(checkpoint, dialect)
    tensors = {name: checkpoint.tensors[key] for name, key in keys.items()}
    try:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        spec = infer_model(shapes, classes=classes, stored=checkpoint.classes)
        with torch.device("meta"):
            detector = Detector(spec)
        wanted = detector.state_dict()
        check_tensors(tensors, wanted)
    except TensorError as error:
        key = keys.get(error.name) or dialect.theirs(error.name)
        raise WeightsError(f"tensor {key} (here {error.name}) {error.problem}") from error
    # Copies: nothing may refer to the file, which is mapped, or share memory.
    state = {name: tensors[name].to(wanted[name].dtype, copy=True) for name in wanted}
    detector.load_state_dict(state, assign=True)
    return Converted(detector.eval(), dialect.label)


def _by_our_names(checkpoint: Checkpoint, dialect: Dialect) -> dict[str, str]:
    """The file's name of each tensor by ours."""
    keys: dict[str, str] = {}
    for key in checkpoint.tensors:
        name = dialect.ours(key)
        assert name is not None
        if name in keys:
            raise WeightsError(f"tensors {keys[name]} and {key} are the same")
        keys[name] = key
    return keys
