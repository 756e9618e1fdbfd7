"""The neck of NanoDet-Plus: path aggregation (Liu et al. 2018) with ghost blocks (Han et al. 2020)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from streamseg.models.nets.depthwise import DepthwiseConv2d, SeparableLeakyReLU
from streamseg.models.nets.layers import resize
from streamseg.models.nets.leaky import conv_leaky_relu
from streamseg.models.spec import GhostPanSpec


class GhostPan(nn.Module):
    """C3, C4, C5 -> P3..P6 of ``channels`` channels: from coarse to fine and back. No norms."""

    def __init__(self, inputs: Sequence[int], spec: GhostPanSpec) -> None:
        super().__init__()
        channels, size = spec.channels, spec.kernel_size
        self.reduce = nn.ModuleList(nn.Conv2d(i, channels, kernel_size=1) for i in inputs)
        self.top_down = nn.ModuleList(_GhostBlock(channels, size) for _ in inputs[1:])
        self.bottom_up = nn.ModuleList(_GhostBlock(channels, size) for _ in inputs[1:])
        self.downsample = nn.ModuleList(
            SeparableLeakyReLU(channels, channels, kernel_size=size, stride=2) for _ in inputs[1:]
        )
        self.extra_in = SeparableLeakyReLU(channels, channels, kernel_size=size, stride=2)
        self.extra_out = SeparableLeakyReLU(channels, channels, kernel_size=size, stride=2)

    @property
    def entries(self) -> nn.ModuleList:
        """The convolutions that read the maps."""
        return self.reduce

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Finest map first, in and out; the last one of the output is half the size of the coarsest map."""
        reduced = [conv_leaky_relu(conv, x) for conv, x in zip(self.reduce, maps, strict=True)]
        merged = [reduced[-1]]
        for block, fine in zip(self.top_down, reversed(reduced[:-1]), strict=True):
            merged.insert(0, block(torch.cat((resize(merged[0], fine.shape[-2:]), fine), dim=1)))
        pyramid = [merged[0]]
        for block, halve, coarse in zip(self.bottom_up, self.downsample, merged[1:], strict=True):
            pyramid.append(block(torch.cat((halve(pyramid[-1]), coarse), dim=1)))
        return [*pyramid, self.extra_in(reduced[-1]) + self.extra_out(pyramid[-1])]


class _GhostBlock(nn.Module):
    """Two ghost layers beside a depthwise-separable shortcut; of twice the channels it makes half."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.ghost1 = _GhostLayer(2 * channels, channels, act=True)
        self.ghost2 = _GhostLayer(channels, channels, act=False)
        self.shortcut = SeparableLeakyReLU(2 * channels, channels, kernel_size=kernel_size, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2 * channels, H, W) -> (N, channels, H, W)."""
        y: Tensor = self.ghost2(self.ghost1(x)) + self.shortcut(x)
        return y


class _GhostLayer(nn.Module):
    """Half of the outputs come from a pointwise convolution, the others cheaply from those."""

    def __init__(self, inputs: int, outputs: int, *, act: bool) -> None:
        super().__init__()
        self.primary = nn.Conv2d(inputs, outputs // 2, kernel_size=1)
        self.cheap = DepthwiseConv2d(outputs // 2)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        if self.act:
            first = conv_leaky_relu(self.primary, x)
            second = conv_leaky_relu(self.cheap, first)
        else:
            first = self.primary(x)
            second = self.cheap(first)
        return torch.cat((first, second), dim=1)
