"""Layers that every SOLO head is built from."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PRIOR_BIAS = -math.log(99.0)
"""Bias of sigmoid outputs at the start of training: probability 0.01 (focal loss paper, section 4.1)."""


class ConvNormReLU(nn.Module):
    """3x3 convolution without bias, GroupNorm, ReLU."""

    def __init__(self, inputs: int, outputs: int, *, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
        self.gn = nn.GroupNorm(groups, outputs)
        nn.init.normal_(self.conv.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        y: Tensor = F.relu(self.gn(self.conv(x)), inplace=True)
        return y


def tower(inputs: int, channels: int, *, depth: int, groups: int) -> nn.Sequential:
    """``depth`` ConvNormReLU layers; the first takes ``inputs`` channels."""
    sizes = [inputs] + [channels] * depth
    return nn.Sequential(*(ConvNormReLU(sizes[i], sizes[i + 1], groups=groups) for i in range(depth)))


def output_conv(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3 convolution to logits that start near probability 0.01."""
    conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
    nn.init.normal_(conv.weight, std=0.01)
    assert conv.bias is not None
    nn.init.constant_(conv.bias, PRIOR_BIAS)
    return conv


def coordinates(like: Tensor) -> Tensor:
    """Coordinate channels (CoordConv; ECCV paper, section 3.2) for a map (N, C, H, W).

    Returns (N, 2, H, W), x then y, each from -1 to 1 over the width and the height.
    """
    n, _, h, w = like.shape
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, h, device=like.device),
        torch.linspace(-1, 1, w, device=like.device),
        indexing="ij",
    )
    return torch.stack((x, y)).expand(n, 2, h, w).to(like.dtype)


def resize_to_grid(x: Tensor, size: int) -> Tensor:
    """Align a map (N, C, H, W) with the grid by bilinear interpolation: (N, C, size, size)."""
    return F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
