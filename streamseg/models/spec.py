"""What a model is made of: the part of a weights file that is not a tensor.

A :class:`ModelSpec` is stored as JSON in the metadata of the safetensors file, so that a weights
file describes itself, and as YAML under ``configs/``. The defaults are those of the papers: "SOLO"
is "SOLO: Segmenting Objects by Locations" (ECCV 2020), "SOLOv2" is "SOLOv2: Dynamic and Fast
Instance Segmentation" (NeurIPS 2020).
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from streamseg.models.classes import COCO_CLASSES, coco_place
from streamseg.models.resnets import RESNETS, ResNetName

Architecture = Literal["solo", "decoupled_solo", "solov2"]
BackboneName = Literal[ResNetName, "mobilenet_v2", "shufflenet_v2_x1_0"]
DETAIL_STRIDE = 4
"""Of C2, and so of the masks of a model with ``mask_feature.detail``."""
Alignment = Literal["interpolate", "adaptive_pool", "roi_align"]
Positive = Annotated[int, Field(gt=0)]
Fraction01 = Annotated[float, Field(ge=0, le=1)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LevelSpec(_Spec):
    """One grid of the head and the pyramid map it reads (SOLO paper, "Network Architecture")."""

    pyramid: Annotated[int, Field(ge=2, le=6)]
    """Which map: k for P_k, of stride 2^k."""
    stride: Positive
    """Pixels per cell of the map after re-mapping: that of one of the pyramid's maps, for SOLO v1 at most 32.
    Its masks have half that stride."""
    grid: Positive
    """S: the canvas is divided into S x S cells."""
    scale: tuple[float, float]
    """Smallest and largest sqrt(box area), in canvas pixels, trained on this level (both inclusive). Objects
    that no level takes are ignored: not taught, nor background."""


class MaskFeatureSpec(_Spec):
    """The mask feature that SOLOv2 convolves with each cell's kernel (SOLOv2 paper, "Mask Feature")."""

    channels: Positive = 128
    """Channels while the pyramid maps are merged."""
    outputs: Positive = 256
    """E: channels of the merged feature, and weights in each cell's 1x1 kernel."""
    detail: Positive | None = None
    """The feature has stride 4 whatever the pyramid, with C2 put in at so many channels."""


class BoxBranchSpec(_Spec):
    """A category branch that is a box head too (NanoDet-Plus): each cell's mask gets a window.

    Its towers run on the maps themselves, one for each level, before they are brought to S x S. The
    cell's box is read as distances (Li et al. 2020, "Generalized Focal Loss"), and its mask may only
    reach a little beyond.
    """

    convs: Positive = 2
    """Depthwise-separable layers of each tower, without norms."""
    kernel_size: Literal[3, 5, 7] = 5
    """Of the towers' depthwise convolutions."""
    bins: Annotated[int, Field(ge=2)] = 8
    """A distance is the mean of 0 .. bins - 1 strides."""
    distractors: bool = False
    """Keep rows for those of COCO's classes that are not the model's, fixed as they begin: a cell whose best
    row is one of them shows nothing. (Of value with the start ``coco``, and if no class of the model
    looks like another one of COCO's.)"""
    knots: Annotated[int, Field(ge=3)] = 9
    """Values that each cell adds to its mask along x, and as many along y, over twice its box."""


class HeadSpec(_Spec):
    """The head. A light variant has fewer convolutions or channels, and nothing else."""

    channels: Positive = 256
    """Channels of the towers."""
    convs: Positive = 7
    """Depth of the mask towers; for SOLOv2 of the kernel tower."""
    class_convs: Positive = 7
    """Depth of the category tower."""
    shared_tower: bool = False
    """Decoupled SOLO: one mask tower for x and y (as the light variant) instead of one each."""
    towers: Literal["dense", "separable"] = "dense"
    """3x3 convolutions, or depthwise 5x5 ones each followed by a pointwise one."""
    mask_feature: MaskFeatureSpec | None = None
    """SOLOv2, and only there."""
    boxes: BoxBranchSpec | None = None
    """SOLOv2 with ``mask_feature.detail``: in place of a category tower that all levels share."""
    groups: Positive = 32
    """Groups of the GroupNorm layers; with ``boxes`` there are none."""
    coordinates: bool = True
    """Coordinate channels before the first mask convolution (CoordConv; SOLO paper, "Instance Mask")."""
    alignment: Alignment = "interpolate"
    """How a map is brought to S x S for the category branch (SOLO paper, "Network Architecture")."""
    levels: Annotated[tuple[LevelSpec, ...], Field(min_length=1)]
    """Its grids, for small objects first."""

    @property
    def may_be_deformable(self) -> bool:
        """Whether its 3x3 convolutions can be deformable ones."""
        return self.towers == "dense" and self.boxes is None

    @model_validator(mode="after")
    def _channels_divide(self) -> Self:
        if self.boxes is not None:
            return self
        widths = {"channels": self.channels}
        if self.mask_feature is not None:
            widths |= {
                "mask_feature.channels": self.mask_feature.channels,
                "mask_feature.outputs": self.mask_feature.outputs,
            }
        for name, width in widths.items():
            if width % self.groups:
                raise ValueError(f"{name} {width} is not a multiple of groups {self.groups}")
        return self


class DeformableSpec(_Spec):
    """Which 3x3 convolutions are deformable."""

    version: Literal[1, 2] = 2
    """1: learned offsets (DCN); 2: a learned weight for every tap besides (DCNv2)."""
    backbone: bool = True
    """The 3x3 convolution of every bottleneck of C3, C4 and C5."""
    head: Literal["none", "last", "all"] = "none"
    """The last convolution of every tower, or all of them and those of SOLOv2's mask feature."""


class GhostPanSpec(_Spec):
    """The neck of NanoDet-Plus, P3 to P6."""

    channels: Annotated[int, Field(gt=0, multiple_of=2)] = 96
    """Channels of each of its maps."""
    kernel_size: Literal[3, 5, 7] = 5
    """Of its depthwise-separable layers."""


class InputSpec(_Spec):
    """How a source picture becomes the network's input.

    The picture is resized with its ratio kept so that it just fits ``long_side`` x ``short_side``,
    normalised in RGB, and padded with zeros on the right and below: to a multiple of 32, or to
    ``canvas`` if that is given. The grid refers to the padded canvas.
    """

    long_side: Positive = 1333
    """Pixels that the picture's longer side must fit into."""
    short_side: Positive = 800
    """Pixels that its shorter side must fit into."""
    canvas: tuple[Positive, Positive] | None = None
    """height, width that every picture is padded to; the picture is resized to fit it."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    """Red, green and blue that are taken off, on a scale to 255."""
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    """What the rest is divided by."""


class TestSpec(_Spec):
    """Post-processing, with the defaults of the published models."""

    __test__ = False

    score_threshold: Fraction01 = 0.1
    """Cells with a class probability above this are candidates."""
    mask_threshold: Fraction01 = 0.5
    """A pixel belongs to a mask if its value is above this."""
    max_candidates: Positive = 1000
    """Candidates (best class probability first) whose masks are built at all: bounds memory."""
    nms_pre: Positive = 500
    """Candidates (best score first) that enter Matrix NMS."""
    kernel: Literal["gaussian", "linear"] = "gaussian"
    """How Matrix NMS lowers the score of what overlaps (SOLOv2 paper, "Matrix NMS")."""
    overlap: Literal["class", "any"] = "class"
    """Which masks suppress one another: those of one class, as the papers have it, or all, so that an
    object gets one label."""
    sigma: Annotated[float, Field(gt=0)] = 2.0
    """How steeply, with the Gaussian kernel."""
    filter_threshold: Fraction01 = 0.05
    """Instances below this score after Matrix NMS are dropped."""
    max_instances: Positive = 100
    """Instances that are kept, best score first."""


def _expand_classes(value: object) -> object:
    return COCO_CLASSES if value == "coco" else value


class ModelSpec(_Spec):
    """A whole model."""

    architecture: Architecture = "decoupled_solo"
    """How a cell says what its mask is."""
    backbone: BackboneName = "resnet50"
    """The network that the pyramid stands on."""
    backbone_width: Positive = 64
    """Channels of a ResNet's stem."""
    deformable: DeformableSpec | None = None
    """Which convolutions are deformable; None for none."""
    fpn_channels: Positive = 256
    """Channels of each map of the pyramid."""
    fpn_first: Literal[2, 3] = 2
    """Finest pyramid map: P2 (stride 4) or P3 (stride 8)."""
    ghost_pan: GhostPanSpec | None = None
    """This neck instead of the feature pyramid network, whose keys then mean nothing."""
    head: HeadSpec
    classes: Annotated[tuple[str, ...], BeforeValidator(_expand_classes), Field(min_length=1)]
    """Names, or ``coco`` for the 80 classes of COCO."""
    input: InputSpec = InputSpec()
    test: TestSpec = TestSpec()

    @model_validator(mode="after")
    def _levels_fit(self) -> Self:
        # On a canvas of an odd number of 32 pixels a map of stride 64 reaches beyond it, and so would masks
        # that are made of its pixels.
        coarsest = 6 if self.architecture == "solov2" else 5
        strides = [2**k for k in range(self.pyramid_first, coarsest + 1)]
        for level in self.head.levels:
            if level.pyramid < self.pyramid_first:
                finest = "ghost_pan's" if self.ghost_pan else "fpn_first"
                raise ValueError(f"head level P{level.pyramid} is finer than {finest} P{self.pyramid_first}")
            if level.stride not in strides:
                raise ValueError(
                    f"head level P{level.pyramid} has stride {level.stride}; allowed are "
                    f"{', '.join(map(str, strides))}"
                )
        return self

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must be different names")
        if (self.head.mask_feature is not None) != (self.architecture == "solov2"):
            raise ValueError("head.mask_feature belongs to architecture solov2, which needs it")
        detail = self.head.mask_feature is not None and self.head.mask_feature.detail is not None
        if detail != (self.head.boxes is not None):
            raise ValueError("head.boxes and head.mask_feature.detail belong together")
        if self.head.shared_tower and self.architecture != "decoupled_solo":
            raise ValueError("head.shared_tower belongs to architecture decoupled_solo")
        if self.deformable and self.deformable.backbone and not _has_bottlenecks(self.backbone):
            raise ValueError(f"deformable.backbone: {self.backbone} has no bottlenecks; set it to false")
        if self.deformable and self.deformable.head != "none" and not self.head.may_be_deformable:
            raise ValueError("deformable.head belongs to dense towers without head.boxes; set it to none")
        return self

    @property
    def distractors(self) -> tuple[str, ...]:
        """COCO's classes that the model knows only in order not to report them."""
        if self.head.boxes is None or not self.head.boxes.distractors:
            return ()
        own = {coco_place(name) for name in self.classes}
        return tuple(name for place, name in enumerate(COCO_CLASSES) if place not in own)

    @property
    def pyramid_first(self) -> int:
        """The finest map that the neck gives is P_k of stride 2^k: this is k."""
        return 3 if self.ghost_pan else self.fpn_first

    @property
    def pyramid_channels(self) -> int:
        """Channels of the neck's maps."""
        return self.ghost_pan.channels if self.ghost_pan else self.fpn_channels

    @property
    def mask_strides(self) -> tuple[int, ...]:
        """Canvas pixels per mask pixel, on each level."""
        if self.head.boxes is not None:
            return (DETAIL_STRIDE,) * len(self.head.levels)
        if self.architecture == "solov2":
            return (2**self.pyramid_first,) * len(self.head.levels)
        return tuple(level.stride // 2 for level in self.head.levels)


def _has_bottlenecks(backbone: BackboneName) -> bool:
    return any(name == backbone and plan.bottlenecks for name, plan in RESNETS.items())
