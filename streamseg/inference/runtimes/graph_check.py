"""Whether a graph in another runtime gives what the network gives in torch."""

import torch
from torch import Tensor

from streamseg.models.input_size import INPUT_MULTIPLE
from streamseg.models.spec import ModelSpec

_TOLERANCES = {torch.float32: (1e-3, 2e-3, 1e-3), torch.bfloat16: (5e-2, 0.2, 0.2)}
"""By what is computed in: how far a value may be from torch's in float32, relative and absolute, and the
share of values that may be farther.

Logits reach 10, and boxes 500 pixels; the bundled model's outputs differ by 2e-4 in float32. A cell is hidden
where a distractor's logit is above all others, and rounding decides between two that are nearly equal: in
bfloat16, on noise, this is so for 5 % of the values, in torch as well.
"""


def example_batch(spec: ModelSpec) -> Tensor:
    """(1, 3, H, W) float32: noise of the canvas, or of a small one if the model takes any."""
    canvas = spec.input.canvas or (4 * INPUT_MULTIPLE, 6 * INPUT_MULTIPLE)
    return torch.randn((1, 3, *canvas), generator=torch.Generator().manual_seed(0))


def check_equal(ours: list[Tensor], expected: list[Tensor], compute: torch.dtype) -> None:
    """A graph of another version of the network must not give results: RuntimeError."""
    if len(ours) != len(expected) or any(a.shape != b.shape for a, b in zip(ours, expected, strict=True)):
        raise RuntimeError("the graph has other outputs than the network")
    relative, absolute, share = _TOLERANCES[compute]
    for a, b in zip(ours, expected, strict=True):
        far = ~torch.isclose(a, b, rtol=relative, atol=absolute)
        if float(far.float().mean()) > share:
            raise RuntimeError(f"the graph's outputs differ from the network's by {(a - b).abs().max():.3g}")
