"""How the reference implementations name the tensors of a detector, and what we call the same tensors.

No tensor needs transposing or re-ordering: all of it is renaming.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from streamseg.errors import WeightsError
from streamseg.models.convert.foreign import whose

_FEATURE_CONV = re.compile(r"convs_all_levels\.(\d+)\.conv(\d+)\.(.+)")
_OUR_FEATURE_CONV = re.compile(r"head\.mask_feature\.branches\.(\d+)\.(\d+)\.(.+)")
_FEATURE_OUTPUT = re.compile(r"conv_pred\.(?:0\.)?(.+)")
_NECK = re.compile(r"neck\.(lateral|fpn)_convs\.(\d+)\.conv\.(weight|bias)")
_OUR_NECK = re.compile(r"neck\.(lateral|output)_convs\.(\d+)\.(weight|bias)")


@dataclass(frozen=True)
class Dialect:
    """How one implementation names the tensors of a detector."""

    label: str
    head: str
    """Prefix of the head's tensors."""
    feature: str
    """Prefix of SOLOv2's mask feature, and what follows it for the last convolution there:"""
    feature_output: str
    parts: Mapping[str, str]
    """Their name of each part of the head, by ours."""

    def ours(self, key: str) -> str | None:
        """Our name of a tensor; None if it is not one of a SOLO detector."""
        if key.startswith("backbone."):
            # Files of mmdetection 1.x keep the offsets' convolution beside the deformable one.
            return key.replace(".conv2_offset.", ".conv2.conv_offset.")
        if match := _NECK.fullmatch(key):
            kind = "lateral" if match[1] == "lateral" else "output"
            return f"neck.{kind}_convs.{match[2]}.{match[3]}"
        if key.startswith(self.feature):
            name = _feature_name(key.removeprefix(self.feature))
        else:
            name = self._part_name(key.removeprefix(self.head)) if key.startswith(self.head) else None
        return None if name is None else f"head.{name}"

    def theirs(self, name: str) -> str:
        """The implementation's name of one of our tensors: ``ours`` the other way round."""
        if match := _OUR_NECK.fullmatch(name):
            kind = "lateral" if match[1] == "lateral" else "fpn"
            return f"neck.{kind}_convs.{match[2]}.conv.{match[3]}"
        if match := _OUR_FEATURE_CONV.fullmatch(name):
            level, place = int(match[1]), int(match[2])
            return f"{self.feature}convs_all_levels.{level}.conv{place // 2 if level else place}.{match[3]}"
        if name.startswith("head.mask_feature.output."):
            return self.feature + self.feature_output + name.removeprefix("head.mask_feature.output.")
        if name.startswith("head."):
            first, _, rest = name.removeprefix("head.").partition(".")
            return f"{self.head}{self.parts.get(first, first)}.{rest}"
        return name

    def _part_name(self, key: str) -> str | None:
        first, _, rest = key.partition(".")
        return next((f"{ours}.{rest}" for ours, theirs in self.parts.items() if theirs == first), None)


def _feature_name(key: str) -> str | None:
    if match := _FEATURE_CONV.fullmatch(key):
        level, conv = int(match[1]), int(match[2])
        # From the second branch on, an upsampling follows each convolution.
        return f"mask_feature.branches.{level}.{2 * conv if level else conv}.{match[3]}"
    match = _FEATURE_OUTPUT.fullmatch(key)
    return f"mask_feature.output.{match[1]}" if match else None


MMDETECTION = Dialect(
    "mmdetection",
    head="mask_head.",
    feature="mask_head.mask_feature_head.",
    feature_output="conv_pred.",
    parts={
        "mask_tower": "mask_convs",
        "mask_tower_x": "mask_convs_x",
        "mask_tower_y": "mask_convs_y",
        "kernel_tower": "kernel_convs",
        "class_tower": "cls_convs",
        "mask_outputs": "conv_mask_list",
        "mask_outputs_x": "conv_mask_list_x",
        "mask_outputs_y": "conv_mask_list_y",
        "kernel_output": "conv_kernel",
        "class_output": "conv_cls",
    },
)
AUTHORS = Dialect(
    "the authors' SOLO",
    head="bbox_head.",
    feature="mask_feat_head.",
    feature_output="conv_pred.0.",
    parts={
        "mask_tower": "ins_convs",
        "kernel_tower": "kernel_convs",
        "class_tower": "cate_convs",
        "mask_outputs": "solo_ins_list",
        "kernel_output": "solo_kernel",
        "class_output": "solo_cate",
    },
)
AUTHORS_DECOUPLED = replace(
    AUTHORS,
    parts={
        "mask_tower": "ins_convs",
        "mask_tower_x": "ins_convs_x",
        "mask_tower_y": "ins_convs_y",
        "class_tower": "cate_convs",
        "mask_outputs_x": "dsolo_ins_list_x",
        "mask_outputs_y": "dsolo_ins_list_y",
        "class_output": "dsolo_cate",
    },
)
DIALECTS = (MMDETECTION, AUTHORS, AUTHORS_DECOUPLED)


def recognise(keys: Iterable[str]) -> Dialect:
    """The dialect that the names of a detector's tensors are of.

    Raises WeightsError that names the first tensor of none, or says that there is no head.
    """
    names = list(keys)
    dialect = max(DIALECTS, key=lambda one: sum(one.ours(key) is not None for key in names))
    stranger = next((key for key in names if dialect.ours(key) is None), None)
    kind = whose(names)
    told = f": it is a checkpoint of {kind}, which cannot be converted" if kind else ""
    if stranger is not None:
        raise WeightsError(
            f"tensor {stranger} is none of a SOLO model of mmdetection or the SOLO authors{told}"
        )
    if not any(key.startswith(dialect.head) for key in names):
        raise WeightsError("it has no head: no tensor's name begins with mask_head. or bbox_head." + told)
    return dialect
