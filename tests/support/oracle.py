"""Numbers computed by the reference implementations, and how to read them.

``tests/oracles/README.md`` says what the files hold. The folder is the one that STREAMSEG_ORACLE_DIR
names, else the copy in the project, else ``../shared/oracle``.
"""

import math
import os
from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from streamseg.models.convert.infer_spec import infer_deformable, infer_head
from streamseg.models.convert.key_maps import DIALECTS
from streamseg.models.spec import Architecture, DeformableSpec, HeadSpec, LevelSpec
from streamseg.training.targets import Annotations

_ROOT = Path(__file__).resolve().parents[2]
_CANDIDATES = (_ROOT / "tests" / "oracles", _ROOT.parent / "shared" / "oracle")
TINY_SCALES = ((1, 24), (12, 48), (24, 96), (48, 160), (96, 512))
"""Scale ranges of the models on 128 x 160 images."""
GROUPS = 4
"""GroupNorm groups of all models in the files."""


def oracle_folder() -> Path | None:
    named = os.environ.get("STREAMSEG_ORACLE_DIR")
    if named:
        return Path(named)
    return next((folder for folder in _CANDIDATES if folder.is_dir()), None)


def detector_name(key: str) -> str | None:
    """Our name of a tensor of a whole reference detector; None if it is not one."""
    return next((name for dialect in DIALECTS if (name := dialect.ours(key)) is not None), None)


def head_name(key: str) -> str | None:
    """Our name of a reference head's tensor, both without the prefix of the head; None: not one."""
    prefixes = [prefix for dialect in DIALECTS for prefix in (dialect.head, dialect.feature)]
    names = (detector_name(prefix + key) for prefix in prefixes)
    return next((name.removeprefix("head.") for name in names if name is not None), None)


@cache
def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


class Oracle:
    """One ``.npz`` file, with the inputs that its kind shares read from ``common_*.npz`` if need be."""

    def __init__(self, name: str) -> None:
        folder = oracle_folder()
        if folder is None:
            pytest.skip("no oracle files: set STREAMSEG_ORACLE_DIR")
        common = "common_fullgrid" if "fullgrid" in name else "common_tiny"
        self.name = name
        shared = next(f / f"{common}.npz" for f in (folder, *_CANDIDATES) if (f / f"{common}.npz").exists())
        self._files = [_read(folder / f"{name}.npz"), _read(shared)]

    def __contains__(self, key: str) -> bool:
        return any(key in file or f"{key}.bits" in file for file in self._files)

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self._files[0] if key.startswith(prefix)]

    def array(self, key: str) -> np.ndarray:
        for file in self._files:
            if key in file:
                return file[key]
            if f"{key}.bits" in file:
                shape = file[f"{key}.shape"]
                bits = np.unpackbits(file[f"{key}.bits"])[: int(np.prod(shape))]
                return bits.reshape(shape).astype(bool)
        raise KeyError(f"{self.name}: no {key}")

    def tensor(self, key: str) -> Tensor:
        return torch.from_numpy(self.array(key))

    def tensors(self, prefix: str) -> list[Tensor]:
        """``prefix/0``, ``prefix/1``, ... one per level."""
        return [self.tensor(f"{prefix}/{level}") for level in range(5)]

    def size(self, key: str) -> tuple[int, int]:
        height, width = self.array(key).tolist()
        return height, width

    def annotations(self, prefix: str) -> Annotations:
        return Annotations(
            class_ids=self.tensor(f"{prefix}/labels").long(),
            boxes=self.tensor(f"{prefix}/boxes").float(),
            masks=self.tensor(f"{prefix}/masks").to(torch.uint8),
        )

    def head_tensors(self, prefix: str = "sd/") -> dict[str, Tensor]:
        """Tensors of a head alone under our names; the authors' files have a prefix for the head."""
        return self._renamed(prefix, lambda key: head_name(key.split("_head.", 1)[-1]))

    def detector_tensors(self, prefix: str = "sd/") -> dict[str, Tensor]:
        """Tensors of a whole detector under our names."""
        return self._renamed(prefix, detector_name)

    def _renamed(self, prefix: str, rename: Callable[[str], str | None]) -> dict[str, Tensor]:
        renamed = {}
        for key in self.keys(prefix):
            name = rename(key.removeprefix(prefix))
            assert name is not None, f"{self.name}: {key} is not a tensor of a SOLO model"
            renamed[name] = self.tensor(key)
        return renamed

    @cached_property
    def head(self) -> tuple[Architecture, HeadSpec, DeformableSpec | None]:
        """The head that the file's tensors belong to."""
        whole = any(key.startswith("sd/backbone.") for key in self.keys("sd/"))
        tensors = self.detector_tensors() if whole else self.head_tensors()
        shapes = {k.removeprefix("head."): tuple(t.shape) for k, t in tensors.items()}
        architecture, head = infer_head(shapes, groups=GROUPS)
        if "fullgrid" not in self.name:
            head = _tiny_levels(architecture, head)
        return architecture, head, infer_deformable(shapes)


def _tiny_levels(architecture: Architecture, head: HeadSpec) -> HeadSpec:
    grids = [level.grid for level in head.levels]
    if architecture == "solov2":  # its tensors do not tell
        grids = [10, 8, 6, 5, 4]
    levels = tuple(
        LevelSpec(pyramid=level.pyramid, stride=level.stride, grid=grid, scale=scale)
        for level, grid, scale in zip(head.levels, grids, TINY_SCALES, strict=True)
    )
    return head.model_copy(update={"levels": levels})


def kind(oracle: Oracle) -> str | None:
    """What a file is about: head, detector, targets or boundary; None for what these tests do not know."""
    if oracle.keys("infer0/"):
        return "detector"
    if oracle.keys("sd/"):
        return "head"
    if oracle.keys("case0/"):
        return "boundary"
    if oracle.keys("gt/"):
        return "targets"
    return None


def names_of(wanted: str) -> list[str]:
    """Names of the reference files of one kind in the folder."""
    return [name for name in all_names() if kind(Oracle(name)) == wanted]


def all_names() -> list[str]:
    """Every file that is about a model."""
    folder = oracle_folder()
    if folder is None:
        return []
    files = [*folder.glob("mmdet_*.npz"), *folder.glob("wx_dcnv1_*.npz")]
    return sorted(path.stem for path in files)


def thinned(ours: list[Tensor], expected: list[Tensor]) -> list[Tensor]:
    """The part of our maps (B, C, h, w) that a file keeps: some images, every k-th channel and pixel.

    The steps are read off the finest level, where they are unambiguous.
    """
    n, channels, height, width = expected[0].shape
    _, all_channels, full_height, full_width = ours[0].shape
    step_c = next(s for s in (1, 5, 97) if math.ceil(all_channels / s) == channels)
    step = next(
        s
        for s in (1, 2, 3, 4, 6, 8)
        if (math.ceil(full_height / s), math.ceil(full_width / s)) == (height, width)
    )
    return [t[:n, ::step_c, ::step, ::step] for t in ours]
