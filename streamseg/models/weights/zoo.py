"""The models of the papers, as the reference implementations configure them.

One YAML file each, in ``configs/models`` of a checkout and inside the installed package.
"""

from pathlib import Path

import torch
from pydantic import ValidationError

from streamseg.config import describe, read_config
from streamseg.errors import ConfigError
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import ModelSpec

_HERE = Path(__file__).resolve().parents[1]
_FOLDERS = (_HERE / "configs", _HERE.parents[1] / "configs" / "models")
"""In an installed package, and in a checkout."""


def official_models() -> dict[str, Path]:
    """Names and YAML files of the published models."""
    folder = next((folder for folder in _FOLDERS if folder.is_dir()), _FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read_model(path: Path) -> ModelSpec:
    """Read a model's YAML file. Raises ConfigError with one line that names every bad key."""
    try:
        return ModelSpec.model_validate(read_config(path))
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe(error, ModelSpec)}") from error


def count_parameters(spec: ModelSpec) -> int:
    """Trainable numbers of a model (batch norms' statistics are none), without building them."""
    with torch.device("meta"):
        detector = Detector(spec)
    return sum(parameter.numel() for parameter in detector.parameters())
