"""The backbone ShuffleNetV2 1.0x (Ma et al. 2018) with its batch norms folded into the convolutions.

It is trained so; what only infers has no shuffles (:mod:`streamseg.models.nets.unshuffled`).
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from streamseg.models.nets.depthwise import DepthwiseConv2d
from streamseg.models.nets.leaky import conv_leaky_relu

_STAGES = ((24, 116, 4), (116, 232, 8), (232, 464, 4))
"""Inputs, outputs and units of the stages that give C3, C4 and C5."""


class ShuffleNetV2(nn.Module):
    """Convolutions with biases and leaky ReLU of slope 0.1, as NanoDet-Plus has them.

    Tensor names are those of torchvision's ``shufflenet_v2_x1_0``, less its norms.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 24, kernel_size=3, stride=2, padding=1)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        stages = [
            nn.Sequential(*(Unit(outputs if u else inputs, outputs, halve=not u) for u in range(units)))
            for inputs, outputs, units in _STAGES
        ]
        self.stage2, self.stage3, self.stage4 = stages
        self.channels = (24, 116, 232, 464)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) normalised RGB -> C2..C5, each (N, channels[i], ~H/stride, ~W/stride)."""
        maps = [self.maxpool(conv_leaky_relu(self.conv1, images))]
        for stage in (self.stage2, self.stage3, self.stage4):
            maps.append(stage(maps[-1]))
        return maps

    def stages(self) -> list[list[nn.Module]]:
        """Modules up to C2, C3, C4 and C5: the order in which layers are frozen."""
        return [[self.conv1], [self.stage2], [self.stage3], [self.stage4]]


class Unit(nn.Module):
    """Two branches whose channels are shuffled; the first is half the input, or it halves the map too."""

    def __init__(self, inputs: int, outputs: int, *, halve: bool) -> None:
        super().__init__()
        half, stride = outputs // 2, 2 if halve else 1
        if halve:
            self.branch1 = _named(
                ("0", DepthwiseConv2d(inputs, stride=2)),
                ("2", nn.Conv2d(inputs, half, kernel_size=1)),
            )
        self.halve, self.branch_channels = halve, half
        self.branch2 = _named(
            ("0", nn.Conv2d(inputs if halve else half, half, kernel_size=1)),
            ("3", DepthwiseConv2d(half, stride=stride)),
            ("5", nn.Conv2d(half, half, kernel_size=1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W), or half that size."""
        if self.halve:
            return _shuffle(self.beside(x), self.changed(x))
        first, second = x.chunk(2, dim=1)
        return _shuffle(first, self.changed(second))

    def beside(self, x: Tensor) -> Tensor:
        """The first branch of a unit that halves the map: (N, inputs, H, W) -> (N, outputs / 2, H/2, W/2)."""
        depthwise, pointwise = self.branch1
        return conv_leaky_relu(pointwise, depthwise(x))

    def changed(self, x: Tensor) -> Tensor:
        """The second branch: (N, C, H, W) -> (N, outputs / 2, H, W), or half that size."""
        narrow, depthwise, pointwise = self.branch2
        return conv_leaky_relu(pointwise, depthwise(conv_leaky_relu(narrow, x)))


def _named(*layers: tuple[str, nn.Module]) -> nn.Sequential:
    """Layers by torchvision's numbers, of which the norms leave gaps."""
    return nn.Sequential(OrderedDict(layers))


def _shuffle(first: Tensor, second: Tensor) -> Tensor:
    """The channels of both (N, C, H, W) by turns, (N, 2C, H, W), in the order in memory that they have."""
    x = torch.cat((first, second), dim=1)
    n, channels, height, width = x.shape
    if _is_channels_last(x):
        last = x.permute(0, 2, 3, 1).reshape(n, height, width, 2, channels // 2)
        return last.transpose(3, 4).reshape(n, height, width, channels).permute(0, 3, 1, 2)
    halves = x.view(n, 2, channels // 2, height, width)
    return halves.transpose(1, 2).reshape(n, channels, height, width)


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)
