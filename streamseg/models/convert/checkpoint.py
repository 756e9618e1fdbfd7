"""Reading a PyTorch checkpoint (``.pth``) without executing anything that it holds.

``torch.load(weights_only=True)`` builds tensors and plain containers only, and refuses a file that
names any other class or function. Files of training frameworks name a few in their metadata
(numpy's numbers, log buffers). So these names are looked up beforehand, without unpickling, and an
inert placeholder stands in for each: what a file names is never imported, let alone called.
"""

import pickle
import pickletools
import textwrap
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.serialization import safe_globals

from streamseg.errors import WeightsError
from streamseg.models.classes import COCO_CLASSES

_LEGACY_PICKLES = 4
"""A file of the older format begins with its magic number, protocol, machine and content, each a pickle."""

_IGNORED = ("data_preprocessor.", "ema_")
"""mmdetection: normalisation constants; the other half of averaged weights (the model's are the average)."""

_STATES = ("state_dict", "model", "model_state_dict")
"""Where a file has its tensors, if not on top: in mmdetection, in detectron2, in PyTorch's tutorials."""

_ZIP = b"PK\x03\x04"
_Opcode = tuple[pickletools.OpcodeInfo, Any, int | None]
_USUAL = ("torch.", "collections.OrderedDict", "_codecs.encode", "numpy.")
"""What files of training frameworks name as a rule, and what can be read."""

_Name = tuple[str, str]
"""A qualified name as it is written, and as Python 3 spells it."""


class Placeholder:
    """Stands in for an object of any foreign class, and does nothing."""

    def __new__(cls, *_: object) -> Self:
        """Take any arguments, and forget them."""
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None: ...


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds for us."""

    tensors: dict[str, Tensor]
    """By the file's names, less the ``module.`` of DataParallel; on the CPU."""
    classes: tuple[str, ...] | None
    """Class names, if the file has them."""


def read_checkpoint(path: Path) -> Checkpoint:
    """Read ``{"state_dict": ..., "meta": ...}``, the same under another name, or a bare state dict.

    Raises WeightsError that names the file and the first thing that is wrong.
    """
    try:
        if path.stat().st_size == 0:
            raise WeightsError(f"{path}: the file is empty")
        content = _load(path)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from error
    return Checkpoint(_tensors(path, content), _classes(content))


def _load(path: Path) -> Any:
    zipped = zipfile.is_zipfile(path)
    with path.open("rb") as file:
        if not zipped and file.read(len(_ZIP)) == _ZIP:
            raise WeightsError(f"{path}: the file is damaged or not complete (the end of its zip is missing)")
    names: set[_Name] = set()
    try:
        names = _names(path, zipped=zipped)
        stand_ins: list[Any] = [(Placeholder, one) for name in names for one in name]
        with safe_globals(stand_ins), warnings.catch_warnings(action="ignore"):
            # The older format, which is not zipped, cannot be mapped.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged pickle raises whatever it happens to run into
        raise WeightsError(f"{path}: {_explain(error, names)}") from error


def _explain(error: Exception, names: set[_Name]) -> str:
    foreign = sorted(name for _, name in names if not name.startswith(_USUAL))
    if isinstance(error, pickle.UnpicklingError) and foreign:
        few = ", ".join(foreign if len(foreign) <= 3 else [*foreign[:3], "..."])
        return f"holds what cannot be read without running it: objects of {few}"
    if isinstance(error, pickle.UnpicklingError):  # torch's own words advise to run it
        return "not a readable PyTorch checkpoint (its pickle is damaged or of an unknown kind)"
    reason = textwrap.shorten(str(error) or type(error).__name__, width=100)
    return f"not a readable PyTorch checkpoint ({reason})"


def _names(path: Path, *, zipped: bool) -> set[_Name]:
    """Every class and function that the file's pickles name."""
    names = set()
    for opcode, argument, _ in _zipped_opcodes(path) if zipped else _legacy_opcodes(path):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            renamed = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
            names.add((f"{module}.{name}", ".".join(renamed)))
    return names


def _zipped_opcodes(path: Path) -> Iterator[_Opcode]:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()  # torch.load does not look at checksums
        if damaged is not None:
            raise zipfile.BadZipFile(f"its part {damaged} is damaged")
        for name in archive.namelist():
            if name.endswith("/data.pkl"):
                yield from pickletools.genops(archive.read(name))


def _legacy_opcodes(path: Path) -> Iterator[_Opcode]:
    with path.open("rb") as file:
        for _ in range(_LEGACY_PICKLES):
            yield from pickletools.genops(file)


def _tensors(path: Path, content: Any) -> dict[str, Tensor]:
    state = content
    for key in _STATES if isinstance(content, dict) else ():
        if key in content and not isinstance(content[key], Tensor):
            state = content[key]
            break
    if not isinstance(state, dict):
        raise WeightsError(f"{path}: holds a {type(state).__name__}, not a state dict")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise WeightsError(f"{path}: its entry {key!r} is a {type(value).__name__}, not a tensor")
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
            raise WeightsError(f"{path}: tensor {key} is not stored as plain numbers")
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    tensors = {key: value.detach() for key, value in state.items() if not key.startswith(_IGNORED)}
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors")
    return tensors


def _classes(content: Any) -> tuple[str, ...] | None:
    """Class names where mmdetection 1.x and 2.x (``CLASSES``) and 3.x put them."""
    meta = content.get("meta") if isinstance(content, dict) else None
    if not isinstance(meta, dict):
        return None
    dataset = meta.get("dataset_meta")
    places = [meta.get("CLASSES")]
    places += [dataset.get("classes"), dataset.get("CLASSES")] if isinstance(dataset, dict) else []
    for names in places:
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            # mmdetection 1.x writes COCO's names with underscores.
            plain = tuple(name.replace("_", " ") for name in names)
            return COCO_CLASSES if plain == COCO_CLASSES else tuple(names)
    return None
