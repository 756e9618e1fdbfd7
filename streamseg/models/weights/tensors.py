"""Whether the tensors of a file are those of a model."""

from collections.abc import Mapping

from torch import Tensor

from streamseg.errors import WeightsError


class TensorError(WeightsError):
    """A tensor is missing, or is not what the model needs; ``name`` is our name of it."""

    def __init__(self, name: str, problem: str) -> None:
        self.name, self.problem = name, problem
        super().__init__(f"tensor {name} {problem}")


def check_tensors(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raises TensorError for the first tensor that is missing, of a wrong shape or kind, or too many.

    Or that holds NaN or infinite values.
    """
    for name, tensor in wanted.items():
        if name not in given:
            raise TensorError(name, "is missing")
        if given[name].shape != tensor.shape:
            raise TensorError(name, f"has shape {tuple(given[name].shape)}, not {tuple(tensor.shape)}")
        if given[name].is_floating_point() != tensor.is_floating_point():
            raise TensorError(name, f"is of {given[name].dtype}, not of {tensor.dtype}")
        if not given[name].is_meta and not given[name].isfinite().all():
            raise TensorError(name, "holds values that are no numbers (NaN or infinite)")
    extra = next((name for name in given if name not in wanted), None)
    if extra is not None:
        raise TensorError(extra, "does not belong to this model")
