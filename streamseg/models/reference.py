"""Checkpoints of the reference implementations: their tensor names, and the model these describe.

"mmdet" is mmdetection 2.x and 3.x, "authors" is the SOLO authors' repository (an mmdetection 1.0
fork). Both name the same tensors differently; none needs transposing or re-ordering.
"""

import math
import re
from collections.abc import Mapping, Sequence

from streamseg.errors import WeightsError
from streamseg.models.classes import COCO_CLASSES
from streamseg.models.spec import (
    Architecture,
    BackboneName,
    DeformableSpec,
    HeadSpec,
    InputSpec,
    LevelSpec,
    MaskFeatureSpec,
    ModelSpec,
)

_HEAD = {
    # mmdet
    "mask_convs": "mask_tower",
    "mask_convs_x": "mask_tower_x",
    "mask_convs_y": "mask_tower_y",
    "kernel_convs": "kernel_tower",
    "cls_convs": "class_tower",
    "conv_mask_list": "mask_outputs",
    "conv_mask_list_x": "mask_outputs_x",
    "conv_mask_list_y": "mask_outputs_y",
    "conv_kernel": "kernel_output",
    "conv_cls": "class_output",
    # authors
    "ins_convs": "mask_tower",
    "ins_convs_x": "mask_tower_x",
    "ins_convs_y": "mask_tower_y",
    "cate_convs": "class_tower",
    "solo_ins_list": "mask_outputs",
    "dsolo_ins_list_x": "mask_outputs_x",
    "dsolo_ins_list_y": "mask_outputs_y",
    "solo_kernel": "kernel_output",
    "solo_cate": "class_output",
    "dsolo_cate": "class_output",
}
_FEATURE_CONV = re.compile(r"convs_all_levels\.(\d+)\.conv(\d+)\.(.+)")
_FEATURE_OUTPUT = re.compile(r"conv_pred\.(?:0\.)?(.+)")
_NECK = re.compile(r"neck\.(lateral|fpn)_convs\.(\d+)\.conv\.(weight|bias)")

GRIDS = (40, 36, 24, 16, 12)
PYRAMID = (2, 3, 4, 5, 6)
STRIDES = (8, 8, 16, 32, 32)
SCALES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
SCALES_512 = ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))
SCALES_448 = ((1, 56), (28, 112), (56, 224), (112, 448), (224, 896))


def head_name(key: str) -> str | None:
    """Our name of a reference head's tensor, both without the prefix of the head; None: not one."""
    key = key.removeprefix("mask_feature_head.")
    if match := _FEATURE_CONV.fullmatch(key):
        level, conv = int(match[1]), int(match[2])
        # From the second branch on, an upsampling follows each convolution.
        return f"mask_feature.branches.{level}.{2 * conv if level else conv}.{match[3]}"
    if match := _FEATURE_OUTPUT.fullmatch(key):
        return f"mask_feature.output.{match[1]}"
    first, _, rest = key.partition(".")
    return f"{_HEAD[first]}.{rest}" if first in _HEAD else None


def detector_name(key: str) -> str | None:
    """Our name of a tensor of a whole reference detector; None if it is not one."""
    if match := _NECK.fullmatch(key):
        kind = "lateral" if match[1] == "lateral" else "output"
        return f"neck.{kind}_convs.{match[2]}.{match[3]}"
    part, _, rest = key.partition(".")
    if part in ("mask_head", "bbox_head", "mask_feat_head"):
        name = head_name(rest)
        return None if name is None else f"head.{name}"
    if part == "backbone":
        # Files of mmdetection 1.x keep the offsets' convolution beside the deformable one.
        return key.replace(".conv2_offset.", ".conv2.conv_offset.")
    return None


Shapes = Mapping[str, Sequence[int]]
"""Shape of each tensor, by our names."""


def infer_model(shapes: Shapes, *, classes: Sequence[str] | None = None) -> ModelSpec:
    """The model that the tensors of a whole detector belong to.

    What tensors cannot tell (input size, scale ranges, SOLOv2's grids) is that of the official model
    of the same shape. ``classes`` defaults to COCO's names for 80 classes. Raises WeightsError if
    tensors are missing that every model has.
    """
    try:
        head_shapes = {k.removeprefix("head."): v for k, v in shapes.items() if k.startswith("head.")}
        architecture, head = infer_head(head_shapes)
        backbone = _backbone(shapes)
        count = head_shapes["class_output.weight"][0]
        fpn_channels = shapes["neck.output_convs.0.weight"][0]
        width = shapes["backbone.conv1.weight"][0]
    except KeyError as error:
        raise WeightsError(f"tensor {error.args[0]} is missing") from error
    light = head.shared_tower or (head.mask_feature is not None and head.channels < 512)
    deformable = infer_deformable(shapes)
    size = InputSpec()
    if light:
        small = head.mask_feature is not None and (deformable is None or deformable.head == "none")
        size = InputSpec(long_side=768, short_side=448) if small else InputSpec(long_side=852, short_side=512)
    return ModelSpec(
        architecture=architecture,
        backbone=backbone,
        backbone_width=width,
        deformable=deformable,
        fpn_channels=fpn_channels,
        head=head.model_copy(update={"levels": _levels([level.grid for level in head.levels], size)}),
        classes=_class_names(count, classes),
        input=size,
    )


def infer_head(shapes: Shapes, *, groups: int = 32) -> tuple[Architecture, HeadSpec]:
    """Architecture and head of tensors without the prefix ``head.``, with levels of 800 x 1333.

    Raises KeyError for a tensor that every head has and this has not.
    """
    inputs, channels = shapes["class_tower.0.conv.weight"][1], shapes["class_tower.0.gn.weight"][0]
    architecture: Architecture = "decoupled_solo"
    feature, branch, grids = None, "mask_tower", list(GRIDS)
    if "kernel_output.weight" in shapes:
        architecture, branch = "solov2", "kernel_tower"
        feature = MaskFeatureSpec(
            channels=shapes["mask_feature.branches.0.0.gn.weight"][0],
            outputs=shapes["mask_feature.output.gn.weight"][0],
        )
    elif "mask_outputs.0.weight" in shapes:
        architecture = "solo"
        grids = [math.isqrt(n) for n in _output_channels(shapes, "mask_outputs")]
    else:
        grids = _output_channels(shapes, "mask_outputs_x")
        branch = "mask_tower" if "mask_tower.0.conv.weight" in shapes else "mask_tower_x"
    return architecture, HeadSpec(
        channels=channels,
        convs=_depth(shapes, branch),
        class_convs=_depth(shapes, "class_tower"),
        shared_tower=architecture == "decoupled_solo" and branch == "mask_tower",
        mask_feature=feature,
        groups=groups,
        coordinates=shapes[f"{branch}.0.conv.weight"][1] > inputs,
        levels=_levels(grids, InputSpec()),
    )


def infer_deformable(shapes: Shapes) -> DeformableSpec | None:
    """Which convolutions are deformable; names with or without the prefix ``head.``."""
    offsets = {name: shape[0] for name, shape in shapes.items() if name.endswith("conv_offset.weight")}
    if not offsets:
        return None
    towers = [name.removeprefix("head.") for name in offsets if "backbone." not in name]
    everywhere = any(name.startswith("class_tower.0.") for name in towers)
    taps = {name: math.prod(shapes[name][2:]) for name in offsets}
    versions = {offsets[name] // taps[name] - 1 for name in offsets}
    return DeformableSpec.model_validate(
        {
            "version": versions.pop(),
            "backbone": any(name.startswith("backbone.") for name in offsets),
            "head": ("all" if everywhere else "last") if towers else "none",
        }
    )


def _output_channels(shapes: Shapes, name: str) -> list[int]:
    levels = len([key for key in shapes if key.startswith(f"{name}.") and key.endswith(".weight")])
    return [shapes[f"{name}.{level}.weight"][0] for level in range(levels)]


def _depth(shapes: Shapes, name: str) -> int:
    return len([key for key in shapes if key.startswith(f"{name}.") and key.endswith(".gn.weight")])


def _levels(grids: Sequence[int], size: InputSpec) -> tuple[LevelSpec, ...]:
    scales = {800: SCALES, 512: SCALES_512, 448: SCALES_448}[size.short_side]
    return tuple(
        LevelSpec(pyramid=p, stride=s, grid=g, scale=r)
        for p, s, g, r in zip(PYRAMID, STRIDES, grids, scales, strict=True)
    )


def _backbone(shapes: Shapes) -> BackboneName:
    bottleneck = "backbone.layer1.0.conv3.weight" in shapes
    blocks = len(
        [key for key in shapes if key.startswith("backbone.layer3.") and key.endswith(".bn1.weight")]
    )
    middle = shapes["backbone.layer1.0.conv2.weight"]
    if bottleneck and middle[0] // middle[1] == 64:
        return "resnext101_64x4d"
    names: dict[tuple[bool, int], BackboneName] = {
        (False, 2): "resnet18",
        (False, 6): "resnet34",
        (True, 6): "resnet50",
        (True, 23): "resnet101",
    }
    if (bottleneck, blocks) not in names:
        raise WeightsError(f"the backbone has {blocks} blocks in layer3, which no supported ResNet has")
    return names[bottleneck, blocks]


def _class_names(count: int, given: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        if len(given) != count:
            raise WeightsError(f"the model has {count} classes, {len(given)} names were given")
        return tuple(given)
    return COCO_CLASSES if count == len(COCO_CLASSES) else tuple(f"class_{i}" for i in range(count))
