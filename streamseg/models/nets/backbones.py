"""Backbones: an image in, the feature maps C2..C5 (strides 4, 8, 16, 32) out.

Blocks come from torchvision, and so do the tensor names: ImageNet weights of torchvision's models
fit without renaming.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.models import mobilenet_v2
from torchvision.models.resnet import BasicBlock, Bottleneck

from streamseg.models.nets.deformable import DeformableConv2d
from streamseg.models.nets.folding import fold_batch_norms
from streamseg.models.nets.shufflenet import ShuffleNetV2
from streamseg.models.resnets import RESNETS, ResNetPlan
from streamseg.models.spec import BackboneName, DeformableSpec


class ResNet(nn.Module):
    """ResNet without its classifier ("pytorch" style: the stride is in the 3x3 convolution)."""

    def __init__(
        self, plan: ResNetPlan, *, width: int = 64, deformable: DeformableSpec | None = None
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        planes = [width * 2**i for i in range(4)]
        self.channels = tuple(p * _block(plan).expansion for p in planes)
        inputs = [width, *self.channels[:3]]
        strides = (1, 2, 2, 2)
        stages = [
            _resnet_stage(plan, i, p, depth=d, stride=s)
            for i, p, d, s in zip(inputs, planes, plan.depths, strides, strict=True)
        ]
        if deformable is not None and deformable.backbone:
            for stage in stages[1:]:
                _deform(stage, version=deformable.version)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) normalised RGB -> C2..C5, each (N, channels[i], ~H/stride, ~W/stride)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps

    def stages(self) -> list[list[nn.Module]]:
        """Modules up to C2, C3, C4 and C5: the order in which layers are frozen."""
        return [[self.conv1, self.bn1, self.layer1], [self.layer2], [self.layer3], [self.layer4]]


def _block(plan: ResNetPlan) -> type[BasicBlock | Bottleneck]:
    block: type[BasicBlock | Bottleneck] = Bottleneck if plan.bottlenecks else BasicBlock
    return block


def _resnet_stage(plan: ResNetPlan, inputs: int, planes: int, *, depth: int, stride: int) -> nn.Sequential:
    block = _block(plan)
    outputs = planes * block.expansion
    shortcut = None
    if stride != 1 or inputs != outputs:
        shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
        )
    widths = {"groups": plan.groups, "base_width": plan.group_width}
    first = block(inputs, planes, stride, shortcut, **widths)
    return nn.Sequential(first, *(block(outputs, planes, **widths) for _ in range(depth - 1)))


def _deform(stage: nn.Sequential, *, version: Literal[1, 2]) -> None:
    """Make the 3x3 convolution of every bottleneck of a stage deformable."""
    for block in stage:
        conv = block.conv2
        assert isinstance(block, Bottleneck)
        assert isinstance(conv, nn.Conv2d)
        block.conv2 = DeformableConv2d(
            conv.in_channels, conv.out_channels, version=version, stride=conv.stride[0], groups=conv.groups
        )


class MobileNetV2(nn.Module):
    """torchvision's MobileNetV2 without its last 1x1 convolution and classifier.

    Its batch norms are folded into the convolutions: they would stay frozen anyway, and on a CPU
    they took a tenth of the time of a training step.
    """

    _ENDS = (4, 7, 14, 18)  # features[:4] ends at stride 4, and so on

    def __init__(self, imagenet: dict[str, Tensor] | None = None) -> None:
        """``imagenet``: tensors of an ImageNet classifier in torchvision's order.

        Raises ValueError if they do not fit.
        """
        super().__init__()
        features = mobilenet_v2().features[: self._ENDS[-1]]
        if imagenet is not None:
            _load_in_order(features, imagenet)
        self.features = features.eval()
        fold_batch_norms(self.features)
        if imagenet is not None:
            _recentre(self.features)
        self.channels = (24, 32, 96, 320)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(N, 3, H, W) normalised RGB -> C2..C5, each (N, channels[i], ~H/stride, ~W/stride)."""
        maps, x = [], images
        for stage in self.stages():
            for layer in stage:
                x = layer(x)
            maps.append(x)
        return maps

    def stages(self) -> list[list[nn.Module]]:
        """Modules up to C2, C3, C4 and C5: the order in which layers are frozen."""
        starts = (0, *self._ENDS[:-1])
        return [list(self.features[a:b]) for a, b in zip(starts, self._ENDS, strict=True)]


def _load_in_order(features: nn.Module, imagenet: dict[str, Tensor]) -> None:
    own = features.state_dict()
    given = [tensor for key, tensor in imagenet.items() if key.startswith("features.")][: len(own)]
    for key, tensor in zip(own, given, strict=True):
        if own[key].shape != tensor.shape:
            raise ValueError(f"{key} is {tuple(own[key].shape)}, the file has {tuple(tensor.shape)}")
    features.load_state_dict(dict(zip(own, given, strict=True)))


def _recentre(features: nn.Sequential) -> None:
    """Take the constant out of the first bottleneck that the next layer's bias only cancels.

    Folding ImageNet's batch norms leaves biases up to 1974 there, which half precision rounds to 1 in
    fp16 and to 8 in bf16. The shift changes nothing in exact arithmetic; in bf16 the masks' mean IoU
    with those of fp32 rises from 0.963 to 0.986.
    """
    project = features.get_submodule("1.conv.1")
    expand = features.get_submodule("2.conv.0.0")
    assert isinstance(project, nn.Conv2d)
    assert isinstance(expand, nn.Conv2d)
    assert project.bias is not None
    assert expand.bias is not None
    kernel, bias = expand.weight.data[:, :, 0, 0].double(), expand.bias.data.double()
    shift = torch.linalg.lstsq(kernel, -bias[:, None]).solution
    project.bias.data -= shift[:, 0].to(project.bias.dtype)
    expand.bias.data = (bias + (kernel @ shift)[:, 0]).to(expand.bias.dtype)


Backbone = ResNet | MobileNetV2 | ShuffleNetV2


def build_backbone(
    name: BackboneName, *, width: int = 64, deformable: DeformableSpec | None = None
) -> Backbone:
    """Make a backbone with random weights; ``width`` is a ResNet's stem width."""
    if name == "mobilenet_v2":
        return MobileNetV2()
    if name == "shufflenet_v2_x1_0":
        return ShuffleNetV2()
    return ResNet(RESNETS[name], width=width, deformable=deformable)


def freeze_backbone(backbone: Backbone, *, stages: int) -> None:
    """Stop training of the first ``stages`` stages (C2, C3, ...) and of all batch-norm statistics.

    The published models freeze the stem and C2 and keep every batch norm in evaluation mode. Call
    it again after ``model.train()``, which would undo the latter.
    """
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    for stage in backbone.stages()[:stages]:
        for layer in stage:
            layer.requires_grad_(False)
