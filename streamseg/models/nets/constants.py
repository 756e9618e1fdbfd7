"""Tensors that depend on nothing but sizes, made once."""

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec

import torch
from torch import Tensor

_Sizes = ParamSpec("_Sizes")
_KEPT = 64
"""Of each kind: a few canvases with some levels each. The largest official one takes 2 MB for 32 pictures."""


def once_per_size(make: Callable[_Sizes, Tensor]) -> Callable[_Sizes, Tensor]:
    """Let ``make(..., device=...)`` run once for the same arguments, which are hashable.

    The tensor belongs to all callers: none may write to it. While a network is traced or a CUDA graph
    recorded, every call makes its own: a trace holds it as open sizes ask for, and a graph's memory must
    not depend on what is kept here.
    """

    @lru_cache(maxsize=_KEPT)
    def kept(*args: _Sizes.args, **kwargs: _Sizes.kwargs) -> Tensor:
        with torch.inference_mode(mode=False), torch.no_grad():
            made = make(*args, **kwargs)
        if made.device.type == "cuda":
            torch.cuda.current_stream(made.device).synchronize()  # other streams may read it
        return made

    def get(*args: _Sizes.args, **kwargs: _Sizes.kwargs) -> Tensor:
        recorded = kwargs["device"].type == "cuda" and torch.cuda.is_current_stream_capturing()  # type: ignore[attr-defined]
        if recorded or torch.compiler.is_compiling():
            return make(*args, **kwargs)
        return kept(*args, **kwargs)  # type: ignore[arg-type]  # sizes are hashable

    return get
