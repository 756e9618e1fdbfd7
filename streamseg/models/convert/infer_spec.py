"""The model that the tensors of a reference implementation's checkpoint describe.

What many tensors say is put to the vote among them, so that one wrong tensor does not pass for a
model of another shape: it is then found when all are compared with that model.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import ValidationError

from streamseg.config import describe
from streamseg.errors import WeightsError
from streamseg.models.classes import COCO_CLASSES
from streamseg.models.resnets import RESNETS
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
from streamseg.models.weights.tensors import TensorError

GRIDS = (40, 36, 24, 16, 12)
PYRAMID = (2, 3, 4, 5, 6)
STRIDES = (8, 8, 16, 32, 32)
SCALES = ((1, 96), (48, 192), (96, 384), (192, 768), (384, 2048))
SCALES_512 = ((1, 64), (32, 128), (64, 256), (128, 512), (256, 2048))
SCALES_448 = ((1, 56), (28, 112), (56, 224), (112, 448), (224, 896))
INPUT_512 = InputSpec(long_side=852, short_side=512)
INPUT_448 = InputSpec(long_side=768, short_side=448)

Scales = Sequence[tuple[float, float]]
Shapes = Mapping[str, Sequence[int]]
"""Shape of each tensor, by our names."""

_RESNETS = {(plan.bottlenecks, plan.depths[2], plan.groups): name for name, plan in RESNETS.items()}
"""By what the tensors tell: bottlenecks, blocks in layer3 (C4), groups."""

_VERSIONS: dict[int, Literal[1, 2]] = {18: 1, 27: 2}
"""Channels of offsets: two for each of the nine taps, in version 2 a weight besides."""


def infer_model(
    shapes: Shapes, *, classes: Sequence[str] | None = None, stored: Sequence[str] | None = None
) -> ModelSpec:
    """The model that the tensors of a whole detector belong to.

    What tensors cannot tell (input size, scale ranges, SOLOv2's grids) is that of the official model
    of the same shape. The class names are ``classes``; else those ``stored`` in the file, if they are
    as many as the model has; else COCO's for 80 classes, or ``class_0``, ``class_1``, ... Raises
    TensorError for a tensor that every model has and this has not; WeightsError.
    """
    architecture, head = _whole_head(shapes)
    deformable = infer_deformable(shapes)
    size, scales = _official_input(head, deformable)
    count = _vote(
        shapes,
        "head.class_output.weight",
        r"head\.class_output\.(weight|bias)",
        prefer=len(classes or COCO_CLASSES),
    )
    try:
        return ModelSpec(
            architecture=architecture,
            backbone=_backbone(shapes),
            backbone_width=_vote(shapes, "backbone.conv1.weight", r"backbone\.(conv1|bn1)\.\w+"),
            deformable=deformable,
            fpn_channels=_vote(shapes, "neck.output_convs.0.weight", r"neck\..*"),
            head=head.model_copy(update={"levels": _levels([x.grid for x in head.levels], scales)}),
            classes=_class_names(count, classes, stored),
            input=size,
        )
    except ValidationError as error:
        raise WeightsError(f"its tensors are of no model that can be built: {describe(error)}") from error


def infer_head(shapes: Shapes, *, groups: int = 32) -> tuple[Architecture, HeadSpec]:
    """Architecture and head of tensors without the prefix ``head.``, with levels of 800 x 1333.

    Raises TensorError for a tensor that every head has and this has not; WeightsError.
    """
    architecture = _architecture(shapes)
    branch = _mask_branch(shapes, architecture)
    try:
        return architecture, HeadSpec(
            channels=_vote(shapes, "class_tower.0.gn.weight", r"class_tower\.\d+\.(gn\.\w+|conv\.weight)"),
            convs=_depth(shapes, branch),
            class_convs=_depth(shapes, "class_tower"),
            shared_tower=architecture == "decoupled_solo" and branch == "mask_tower",
            mask_feature=_mask_feature(shapes) if architecture == "solov2" else None,
            groups=groups,
            coordinates=_inputs(shapes, branch) != _inputs(shapes, "class_tower"),
            levels=_levels(_grids(shapes, architecture), SCALES),
        )
    except ValidationError as error:
        raise WeightsError(f"its tensors are of no head that can be built: {describe(error)}") from error


def infer_deformable(shapes: Shapes) -> DeformableSpec | None:
    """Which convolutions are deformable; names with or without the prefix ``head.``.

    Raises TensorError if the number of offsets is that of no version.
    """
    names = [name for name in shapes if ".conv_offset." in name]
    if not names:
        return None
    towers = [name.removeprefix("head.") for name in names if not name.startswith("backbone.")]
    everywhere = any(name.startswith("class_tower.0.") for name in towers)
    channels = _vote(shapes, names[0], r"(backbone|(head\.)?\w+_tower)\..*\.conv_offset\.(weight|bias)")
    if channels not in _VERSIONS:
        raise TensorError(names[0], f"has {channels} channels, neither 18 (DCN) nor 27 (DCNv2)")
    return DeformableSpec(
        version=_VERSIONS[channels],
        backbone=len(towers) < len(names),
        head=("all" if everywhere else "last") if towers else "none",
    )


def _whole_head(shapes: Shapes) -> tuple[Architecture, HeadSpec]:
    try:
        return infer_head({k.removeprefix("head."): v for k, v in shapes.items() if k.startswith("head.")})
    except TensorError as error:
        raise TensorError(f"head.{error.name}", error.problem) from error


def _architecture(shapes: Shapes) -> Architecture:
    if _any(shapes, "kernel_tower.") or _any(shapes, "kernel_output."):
        return "solov2"
    return "solo" if _any(shapes, "mask_outputs.") else "decoupled_solo"


def _mask_branch(shapes: Shapes, architecture: Architecture) -> str:
    if architecture == "solov2":
        return "kernel_tower"
    return "mask_tower" if architecture == "solo" or _any(shapes, "mask_tower.") else "mask_tower_x"


def _mask_feature(shapes: Shapes) -> MaskFeatureSpec:
    return MaskFeatureSpec(
        channels=_vote(shapes, "mask_feature.branches.0.0.gn.weight", r"mask_feature\.branches\..*\.gn\.\w+"),
        outputs=_vote(
            shapes, "mask_feature.output.gn.weight", r"mask_feature\.output\.gn\.\w+|kernel_output\.\w+"
        ),
    )


def _grids(shapes: Shapes, architecture: Architecture) -> list[int]:
    if architecture == "solov2":  # its tensors do not tell
        return list(GRIDS)
    if architecture == "solo":
        return [math.isqrt(_outputs(shapes, "mask_outputs", i, prefer=s**2)) for i, s in enumerate(GRIDS)]
    return [_outputs(shapes, "mask_outputs_[xy]", i, prefer=s) for i, s in enumerate(GRIDS)]


def _outputs(shapes: Shapes, name: str, level: int, *, prefer: int) -> int:
    example = f"{name.replace('[xy]', 'x')}.{level}.weight"
    return _vote(shapes, example, rf"{name}\.{level}\.(weight|bias)", prefer=prefer)


def _official_input(head: HeadSpec, deformable: DeformableSpec | None) -> tuple[InputSpec, Scales]:
    """Input and scale ranges of the official model with such a head."""
    if head.shared_tower:
        return INPUT_512, SCALES_512
    if head.mask_feature is None or head.channels >= 512:
        return InputSpec(), SCALES
    if deformable is None or deformable.head == "none":
        return INPUT_448, SCALES_448
    # mmdetection's model, with DCNv2, has the scale ranges of 512 but is tested at 448.
    return INPUT_512 if deformable.version == 1 else INPUT_448, SCALES_512


def _levels(grids: Sequence[int], scales: Scales) -> tuple[LevelSpec, ...]:
    return tuple(
        LevelSpec(pyramid=p, stride=s, grid=g, scale=r)
        for p, s, g, r in zip(PYRAMID, STRIDES, grids, scales, strict=True)
    )


def _backbone(shapes: Shapes) -> BackboneName:
    depth = _depth(shapes, "backbone.layer3", first="conv1.weight")
    bottlenecks = any(name.startswith("backbone.layer") and ".conv3." in name for name in shapes)
    middle = [s for n, s in shapes.items() if re.fullmatch(r"backbone\.layer1\.\d+\.conv2\.weight", n)]
    # The second dimension is that of one group of channels.
    grouped = [shape for shape in middle if len(shape) == 4 and shape[0] == 64 * shape[1]]
    kind = (bottlenecks, depth, 64 if 2 * len(grouped) > len(middle) else 1)
    if kind not in _RESNETS:
        raise WeightsError(f"its backbone has {depth} blocks in layer3, which no supported ResNet has")
    return _RESNETS[kind]


def _any(shapes: Shapes, prefix: str) -> bool:
    return any(name.startswith(prefix) for name in shapes)


def _vote(shapes: Shapes, name: str, pattern: str, *, prefer: int | None = None) -> int:
    """The first dimension of most tensors that the pattern fits; ``prefer`` wins a tie.

    Raises TensorError that ``name`` is missing if there is no such tensor.
    """
    votes = Counter(shape[0] for key, shape in shapes.items() if shape and re.fullmatch(pattern, key))
    if not votes:
        raise TensorError(name, "is missing")
    return max(votes, key=lambda size: (votes[size], size == prefer))


def _depth(shapes: Shapes, name: str, *, first: str = "conv.weight") -> int:
    """How many entries a tower or stage has. Raises TensorError for the first that is missing."""
    start = f"{name}."
    numbers = [key.removeprefix(start).partition(".")[0] for key in shapes if key.startswith(start)]
    places = {int(number) for number in numbers if number.isdecimal()}
    gap = next(i for i in range(len(places) + 1) if i not in places)
    if not places or gap <= max(places):
        raise TensorError(f"{name}.{gap}.{first}", "is missing")
    return gap


def _inputs(shapes: Shapes, tower: str) -> int:
    """Input channels of a tower."""
    name = f"{tower}.0.conv.weight"
    shape = shapes.get(name)
    if shape is None:
        raise TensorError(name, "is missing")
    if len(shape) != 4:
        raise TensorError(name, f"has shape {tuple(shape)}, not four dimensions")
    return shape[1]


def _class_names(count: int, given: Sequence[str] | None, stored: Sequence[str] | None) -> tuple[str, ...]:
    if given is not None:
        if len(given) != count:
            raise WeightsError(f"the model has {count} classes, {len(given)} names were given")
        return tuple(given)
    if stored is not None and len(stored) == count:
        return tuple(stored)
    return COCO_CLASSES if count == len(COCO_CLASSES) else tuple(f"class_{i}" for i in range(count))
