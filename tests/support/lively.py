"""Small detectors whose random weights find something: those of a new detector are too even."""

from typing import Any, Literal

import torch
from torch import nn

from streamseg.models.nets.deformable import DeformableConv2d
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import (
    Architecture,
    BackboneName,
    BoxBranchSpec,
    DeformableSpec,
    GhostPanSpec,
    HeadSpec,
    LevelSpec,
    MaskFeatureSpec,
    ModelSpec,
    TestSpec,
)

GRIDS = (10, 5)


def make_detector(
    architecture: Architecture,
    *,
    backbone: BackboneName = "resnet18",
    deformable: DeformableSpec | None = None,
    shared_tower: bool = False,
    towers: Literal["dense", "separable"] = "dense",
    windows: bool = False,
    test: TestSpec | None = None,
) -> Detector:
    """``windows``: the neck and the category branch of NanoDet-Plus."""
    feature = None
    if architecture == "solov2":
        feature = MaskFeatureSpec(channels=8, outputs=8, detail=12 if windows else None)
    first = 3 if architecture == "solov2" else 2
    head = HeadSpec(
        channels=8,
        convs=1,
        class_convs=1,
        groups=4,
        shared_tower=shared_tower,
        towers=towers,
        mask_feature=feature,
        boxes=BoxBranchSpec(kernel_size=3) if windows else None,
        levels=(  # a map that is halved and one that is enlarged
            LevelSpec(pyramid=first, stride=2 ** (first + 1), grid=GRIDS[0], scale=(1, 512)),
            LevelSpec(pyramid=6, stride=32, grid=GRIDS[1], scale=(1, 512)),
        ),
    )
    spec = ModelSpec(
        architecture=architecture,
        backbone=backbone,
        backbone_width=8,
        deformable=deformable,
        fpn_channels=8,
        ghost_pan=GhostPanSpec(channels=8, kernel_size=3) if windows else None,
        fpn_first=first,
        head=head,
        classes=("a", "b", "c"),
        test=test or TestSpec(),
    )
    torch.manual_seed(3)
    detector = Detector(spec).eval()
    for stage in detector.backbone.stages():  # one block of each will do
        if isinstance(stage[-1], nn.Sequential):
            del stage[-1][1:]
    with torch.no_grad():
        for name, parameter in detector.head.named_parameters():
            if parameter.ndim == 4:
                # Steep masks have few pixels at the threshold, where rounding would decide.
                gain = 6 if name.startswith(("mask_outputs", "kernel_output")) else 1.5
                parameter.normal_(std=gain / parameter[0].numel() ** 0.5)
            elif name.endswith("bias") and name.startswith("mask_outputs"):
                parameter.zero_()
        for name, parameter in detector.head.named_parameters():
            if name.startswith("class_output") and name.endswith("bias"):
                parameter.fill_(-1.0)
        for module in detector.modules():
            if isinstance(module, DeformableConv2d):
                shake(module)
    return detector


def shake(conv: DeformableConv2d) -> None:
    """Give a deformable convolution offsets, some of which lead out of the map."""
    nn.init.normal_(conv.conv_offset.weight, std=0.2)
    assert conv.conv_offset.bias is not None
    nn.init.normal_(conv.conv_offset.bias, std=2.0)


VARIANTS: dict[str, dict[str, Any]] = {
    "solo": {"architecture": "solo"},
    "decoupled": {"architecture": "decoupled_solo"},
    "solov2": {"architecture": "solov2"},
    "solo, separable": {"architecture": "solo", "backbone": "shufflenet_v2_x1_0", "towers": "separable"},
    "solov2, windows": {"architecture": "solov2", "backbone": "shufflenet_v2_x1_0", "windows": True},
    "solo, DCNv2": {
        "architecture": "solo",
        "backbone": "resnet50",
        "deformable": DeformableSpec(version=2, head="all"),
    },
    "decoupled light, DCN": {
        "architecture": "decoupled_solo",
        "shared_tower": True,
        "deformable": DeformableSpec(version=1, backbone=False, head="last"),
    },
    "solov2, DCN": {
        "architecture": "solov2",
        "deformable": DeformableSpec(version=1, backbone=False, head="all"),
    },
}
