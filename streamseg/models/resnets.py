"""The ResNets that there are: one table for those who build one and those who recognise one."""

from dataclasses import dataclass
from typing import Literal

ResNetName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnext101_64x4d"]


@dataclass(frozen=True, slots=True)
class ResNetPlan:
    """What tells one ResNet from another."""

    bottlenecks: bool
    """Blocks of three convolutions (1x1, 3x3, 1x1) instead of two (3x3 each)."""
    depths: tuple[int, int, int, int]
    """Blocks in each of the stages C2..C5."""
    groups: int = 1
    """Groups of the 3x3 convolution in a bottleneck (ResNeXt), and their width at 64 planes."""
    group_width: int = 64


RESNETS: dict[ResNetName, ResNetPlan] = {
    "resnet18": ResNetPlan(False, (2, 2, 2, 2)),
    "resnet34": ResNetPlan(False, (3, 4, 6, 3)),
    "resnet50": ResNetPlan(True, (3, 4, 6, 3)),
    "resnet101": ResNetPlan(True, (3, 4, 23, 3)),
    "resnext101_64x4d": ResNetPlan(True, (3, 4, 23, 3), groups=64, group_width=4),
}
