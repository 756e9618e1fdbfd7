"""Tensor names and shapes of the official checkpoints (``tests/oracles/README.md`` says from where)."""

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).resolve().parent.parent / "oracles" / "keys.json.gz"


@dataclass(frozen=True)
class KeyList:
    parameters: int
    tensors: dict[str, tuple[int, ...]]
    """Shapes by the implementation's names, in the order of its state dict."""


@cache
def key_lists() -> dict[str, KeyList]:
    """By ``mmdet_CONFIG`` and ``wx_CONFIG`` (the authors')."""
    content = json.loads(gzip.decompress(_FILE.read_bytes()))
    return {
        name: KeyList(one["parameters"], {key: tuple(shape) for key, shape in one["tensors"].items()})
        for name, one in content.items()
    }
