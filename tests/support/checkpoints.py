"""Small checkpoints as the reference implementations write them."""

import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from streamseg.cli import main
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import (
    Architecture,
    DeformableSpec,
    HeadSpec,
    LevelSpec,
    MaskFeatureSpec,
    ModelSpec,
)

State = dict[str, Tensor]

_GRIDS = {"solo": (10, 8, 6, 5, 4), "decoupled_solo": (10, 8, 6, 5, 4), "solov2": (40, 36, 24, 16, 12)}

# The implementations' names, written down a second time: the other way round, and only for the tests.
_COMMON = [
    (r"neck\.lateral_convs\.(\d)\.", r"neck.lateral_convs.\1.conv."),
    (r"neck\.output_convs\.(\d)\.", r"neck.fpn_convs.\1.conv."),
    (r"mask_feature\.branches\.0\.0\.", r"mask_feature.convs_all_levels.0.conv0."),
    (r"mask_feature\.branches\.(\d)\.0\.", r"mask_feature.convs_all_levels.\1.conv0."),
    (r"mask_feature\.branches\.(\d)\.2\.", r"mask_feature.convs_all_levels.\1.conv1."),
    (r"mask_feature\.branches\.(\d)\.4\.", r"mask_feature.convs_all_levels.\1.conv2."),
    (r"kernel_tower", "kernel_convs"),
]

_MMDET = [
    *_COMMON,
    (r"head\.mask_feature\.output\.", "mask_head.mask_feature_head.conv_pred."),
    (r"head\.mask_feature\.", "mask_head.mask_feature_head."),
    (r"mask_tower", "mask_convs"),
    (r"class_tower", "cls_convs"),
    (r"mask_outputs", "conv_mask_list"),
    (r"kernel_output", "conv_kernel"),
    (r"class_output", "conv_cls"),
    (r"^head\.", "mask_head."),
]

_WX = [
    *_COMMON,
    (r"head\.mask_feature\.output\.", "mask_feat_head.conv_pred.0."),
    (r"head\.mask_feature\.", "mask_feat_head."),
    (r"mask_tower", "ins_convs"),
    (r"class_tower", "cate_convs"),
    (r"mask_outputs_", "dsolo_ins_list_"),
    (r"mask_outputs", "solo_ins_list"),
    (r"kernel_output", "solo_kernel"),
    (r"^head\.", "bbox_head."),
]


def mmdet_name(name: str, architecture: Architecture) -> str:
    for ours, theirs in _MMDET:
        name = re.sub(ours, theirs, name)
    return name


def wx_name(name: str, architecture: Architecture) -> str:
    name = name.replace("class_output", "dsolo_cate" if architecture == "decoupled_solo" else "solo_cate")
    for ours, theirs in _WX:
        name = re.sub(ours, theirs, name)
    return name


def make_spec(
    architecture: Architecture = "solo", *, light: bool = False, dcn: int = 0, convs: int = 2
) -> ModelSpec:
    levels = tuple(
        LevelSpec(pyramid=p, stride=s, grid=g, scale=(1, 64))
        for p, s, g in zip((2, 3, 4, 5, 6), (8, 8, 16, 32, 32), _GRIDS[architecture], strict=True)
    )
    head = HeadSpec(
        channels=32,
        convs=convs,
        class_convs=convs,
        shared_tower=light,
        mask_feature=MaskFeatureSpec(channels=32, outputs=32) if architecture == "solov2" else None,
        levels=levels,
    )
    return ModelSpec(
        architecture=architecture,
        backbone="resnet50" if dcn else "resnet18",
        backbone_width=8,
        deformable=DeformableSpec.model_validate({"version": dcn, "head": "last"}) if dcn else None,
        fpn_channels=32,
        head=head,
        classes=("a", "b", "c"),
    )


def make_state(spec: ModelSpec, rename: Callable[[str, Architecture], str] = mmdet_name) -> State:
    """A random model's tensors under an implementation's names."""
    torch.manual_seed(0)
    state = OrderedDict()
    for name, tensor in Detector(spec).state_dict().items():
        values = torch.randn(tensor.shape) if tensor.is_floating_point() else torch.tensor(7)
        state[rename(name, spec.architecture)] = values
    return state


def convert(path: Path, *options: str) -> int:
    return main(["convert", str(path), str(path.parent / "out.safetensors"), *options])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == ""
    assert line.startswith("error: ")
    return line


def saved(folder: Path, content: object, **options: Any) -> Path:
    path = folder / "checkpoint.pth"
    torch.save(content, path, **options)
    return path
