"""Numbers computed by the reference implementations, and how to read them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

_ROOT = Path(__file__).resolve().parent.parent
_CANDIDATES = (_ROOT / "tests" / "oracles", _ROOT.parent / "shared" / "oracle")


def oracle_folder() -> Path:
    """The folder named by STREAMSEG_ORACLE_DIR, else the copy in the project, else one beside it."""
    named = os.environ.get("STREAMSEG_ORACLE_DIR")
    if named:
        return Path(named)
    for folder in _CANDIDATES:
        if folder.is_dir():
            return folder
    pytest.skip("no oracle files: set STREAMSEG_ORACLE_DIR")


class Oracle:
    """One ``.npz`` file, with the inputs that its kind shares read from ``common`` if need be."""

    def __init__(self, name: str, *, common: str | None = None) -> None:
        self._files = [np.load(oracle_folder() / f"{n}.npz") for n in (name, common) if n]

    def keys(self, prefix: str) -> list[str]:
        return [key for file in self._files for key in file.files if key.startswith(prefix)]

    def array(self, key: str) -> np.ndarray:
        for file in self._files:
            if key in file.files:
                return file[key]
            if f"{key}.bits" in file.files:
                shape = file[f"{key}.shape"]
                bits = np.unpackbits(file[f"{key}.bits"])[: int(np.prod(shape))]
                return bits.reshape(shape).astype(bool)
        raise KeyError(key)

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(self.array(key))

    def tensors(self, prefix: str) -> list[Tensor]:
        """``prefix/0``, ``prefix/1``, ... one per level."""
        return [self.tensor(f"{prefix}/{level}") for level in range(5)]

    def state_dict(self) -> dict[str, Tensor]:
        return {key.removeprefix("sd/"): self.tensor(key) for key in self.keys("sd/")}


_HEAD_NAMES = {
    "mask_convs_x": "mask_tower_x",
    "mask_convs_y": "mask_tower_y",
    "mask_convs": "mask_tower",
    "cls_convs": "class_tower",
    "conv_mask_list_x": "mask_outputs_x",
    "conv_mask_list_y": "mask_outputs_y",
    "conv_cls": "class_output",
}
_NECK_NAMES = {"lateral_convs": "lateral_convs", "fpn_convs": "output_convs"}


def head_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a reference head under our names."""
    renamed = {}
    for key, tensor in state.items():
        first, _, rest = key.partition(".")
        renamed[f"{_HEAD_NAMES[first]}.{rest}"] = tensor
    return renamed


def detector_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a whole reference detector under our names."""
    renamed = {}
    for key, tensor in state.items():
        part, _, rest = key.partition(".")
        if part == "mask_head":
            ((name, _),) = head_state({rest: tensor}).items()
            renamed[f"head.{name}"] = tensor
        elif part == "neck":
            kind, level, _, leaf = rest.split(".")
            renamed[f"neck.{_NECK_NAMES[kind]}.{level}.{leaf}"] = tensor
        else:
            renamed[key] = tensor
    return renamed
