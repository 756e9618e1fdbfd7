"""Layers that every SOLO head is built from."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from streamseg.models.nets.constants import once_per_size
from streamseg.models.nets.deformable import DeformableConv2d
from streamseg.models.nets.depthwise import DepthwiseConv2d
from streamseg.models.spec import Alignment, DeformableSpec

_T = TypeVar("_T")

PRIOR_BIAS = -math.log(99.0)
"""Bias of sigmoid outputs at the start of training: probability 0.01 (focal loss paper, section 4.1)."""


class ConvNormReLU(nn.Module):
    """Convolution without bias, plain or deformable, then GroupNorm and ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        groups: int,
        kernel_size: int = 3,
        deformable: Literal[1, 2] | None = None,
    ) -> None:
        super().__init__()
        self.conv: nn.Conv2d | DeformableConv2d
        if deformable is None:
            self.conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False)
        else:
            self.conv = DeformableConv2d(inputs, outputs, kernel_size=kernel_size, version=deformable)
        self.gn = nn.GroupNorm(groups, outputs)
        nn.init.normal_(self.conv.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        y: Tensor = F.relu(self.gn(self.conv(x)), inplace=True)
        return y


class SeparableNormReLU(nn.Module):
    """Depthwise 5x5 convolution, then a pointwise one without bias, GroupNorm and ReLU."""

    def __init__(self, inputs: int, outputs: int, *, groups: int) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv2d(inputs, kernel_size=5)
        self.pointwise = ConvNormReLU(inputs, outputs, groups=groups, kernel_size=1)
        nn.init.kaiming_normal_(self.depthwise.weight, nonlinearity="linear")

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return y


def tower(
    inputs: int,
    channels: int,
    *,
    depth: int,
    groups: int,
    deformable: DeformableSpec | None = None,
    separable: bool = False,
) -> nn.Sequential:
    """``depth`` ConvNormReLU layers, or separable ones; the first takes ``inputs`` channels."""
    if separable:
        widths = [inputs] + [channels] * (depth - 1)
        return nn.Sequential(*(SeparableNormReLU(width, channels, groups=groups) for width in widths))
    sizes = [inputs] + [channels] * depth
    versions: list[Literal[1, 2] | None] = [None] * depth
    if deformable is not None and deformable.head != "none":
        first = depth - 1 if deformable.head == "last" else 0
        versions[first:] = [deformable.version] * (depth - first)
    return nn.Sequential(
        *(ConvNormReLU(sizes[i], sizes[i + 1], groups=groups, deformable=versions[i]) for i in range(depth))
    )


def output_conv(inputs: int, outputs: int, *, kernel_size: int = 3, bias: float = PRIOR_BIAS) -> nn.Conv2d:
    """Convolution to logits, which start near ``bias``."""
    conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, bias)
    return conv


def coordinates(like: Tensor) -> Tensor:
    """Coordinate channels (CoordConv; SOLO paper, "Network Architecture") for a map (N, C, H, W).

    Returns (N, 2, H, W), x then y, each from -1 to 1 over the width and the height, in the order in memory
    that the map has: ``torch.cat`` would bring both to the other one. Not to be written to.
    """
    n, _, h, w = like.shape
    last = not torch.compiler.is_compiling() and like.is_contiguous(memory_format=torch.channels_last)
    return _coordinates(n, h, w, device=like.device, dtype=like.dtype, channels_last=last)


@once_per_size
def _coordinates(
    n: int, h: int, w: int, *, device: torch.device, dtype: torch.dtype, channels_last: bool
) -> Tensor:
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, h, device=device), torch.linspace(-1, 1, w, device=device), indexing="ij"
    )
    both = torch.stack((x, y)).expand(n, 2, h, w).to(dtype)
    return both.contiguous(memory_format=torch.channels_last) if channels_last else both


def align_to_grid(x: Tensor, size: int, *, method: Alignment = "interpolate") -> Tensor:
    """Bring a map (N, C, H, W) to (N, C, size, size): one value for each cell.

    ``interpolate`` samples bilinearly at the cells' centres, ``adaptive_pool`` takes the maximum of
    each cell, ``roi_align`` the mean of 2 x 2 bilinear samples in each cell. The paper found them
    within 0.1 AP of each other.
    """
    if method == "interpolate":
        return resize(x, (size, size))
    if method == "adaptive_pool":
        return F.adaptive_max_pool2d(x, (size, size))
    n, _, h, w = x.shape
    whole = _whole_maps(n, h, w, device=x.device)
    cells: Tensor = roi_align(x.float(), whole, (size, size), sampling_ratio=2, aligned=True)
    return cells.to(x.dtype)


@once_per_size
def _whole_maps(n: int, h: int, w: int, *, device: torch.device) -> Tensor:
    """(N, 5) image, x1, y1, x2, y2, as ``roi_align`` wants it."""
    whole = torch.zeros((n, 5), device=device)
    whole[:, 0] = torch.arange(n, device=device)
    whole[:, 3], whole[:, 4] = w, h
    return whole


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resizing of (N, C, H, W), as everywhere in SOLO: half-pixel centres, no antialiasing."""
    if x.shape[-2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def double(x: Tensor) -> Tensor:
    """Bilinear upsampling of (N, C, H, W) by 2."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def once_per_map(function: Callable[[Tensor], _T], maps: Sequence[Tensor]) -> list[_T]:
    """``function`` of each map; levels that share a map share the result too."""
    results = {id(x): function(x) for x in {id(x): x for x in maps}.values()}
    return [results[id(x)] for x in maps]
