"""A head's output as a plain list of tensors, and back: for what knows tensors only, or copies them all."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from streamseg.models.nets.head import HeadOutput

_OF_THE_MODEL = {"weights", "biases"}
"""Parameters, the same for every picture."""


def batch_tensors(output: HeadOutput) -> list[Tensor]:
    """All that an output of B pictures holds of them, in a fixed order: (B, ...) each."""
    return [tensor for _, tensors in _batched(output) for tensor in tensors]


def with_tensors(template: Any, tensors: Sequence[Tensor]) -> HeadOutput:
    """An output of the template's model that holds ``tensors``, in the order of :func:`batch_tensors`."""
    rest = list(tensors)
    values: dict[str, Tensor | list[Tensor]] = {}
    for name, old in _batched(template):
        taken, rest = rest[: len(old)], rest[len(old) :]
        values[name] = taken[0] if isinstance(getattr(template, name), Tensor) else taken
    assert not rest
    output: HeadOutput = replace(template, **values)
    return output


def _batched(output: Any) -> list[tuple[str, list[Tensor]]]:
    """The fields of a head's output, every kind of which is a dataclass."""
    values = {f.name: getattr(output, f.name) for f in fields(output) if f.name not in _OF_THE_MODEL}
    return [(name, [value] if isinstance(value, Tensor) else value) for name, value in values.items()]
