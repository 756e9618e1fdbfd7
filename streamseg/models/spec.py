"""What a model is made of: the part of a weights file that is not a tensor.

A :class:`ModelSpec` is stored as JSON in the metadata of the safetensors file, so that a weights
file describes itself, and as YAML under ``configs/``.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2"]
Positive = Annotated[int, Field(gt=0)]
Fraction01 = Annotated[float, Field(ge=0, le=1)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LevelSpec(_Spec):
    """One grid of the head and the pyramid map it reads."""

    pyramid: Annotated[int, Field(ge=2, le=6)]
    """Which map: k for P_k, of stride 2^k."""
    stride: Positive
    """Pixels per cell of the map after re-mapping; the masks have half that stride."""
    grid: Positive
    """S: the canvas is divided into S x S cells."""
    scale: tuple[float, float]
    """Smallest and largest sqrt(box area), in canvas pixels, trained on this level (both inclusive)."""


class HeadSpec(_Spec):
    """Decoupled SOLO (ECCV paper, section 3.4)."""

    channels: Positive = 256
    convs: Positive = 7
    """Depth of the mask towers."""
    class_convs: Positive = 7
    """Depth of the category tower."""
    shared_tower: bool = False
    """One mask tower for x and y (the light variant) instead of one each."""
    groups: Positive = 32
    """Groups of the GroupNorm layers."""
    levels: tuple[LevelSpec, ...]

    @model_validator(mode="after")
    def _channels_divide(self) -> Self:
        if self.channels % self.groups:
            raise ValueError(f"channels {self.channels} is not a multiple of groups {self.groups}")
        return self


class InputSpec(_Spec):
    """How a source picture becomes the network's input.

    The picture is resized with its ratio kept so that it just fits ``long_side`` x ``short_side``,
    normalised in RGB, and padded with zeros on the right and below: to a multiple of 32, or to
    ``canvas`` if that is given. The grid refers to the padded canvas.
    """

    long_side: Positive = 1333
    short_side: Positive = 800
    canvas: tuple[Positive, Positive] | None = None
    """height, width that every picture is padded to; the picture is resized to fit it."""
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)


class TestSpec(_Spec):
    """Post-processing, with the defaults of the published models."""

    __test__ = False

    score_threshold: Fraction01 = 0.1
    """Cells with a class probability above this are candidates."""
    mask_threshold: Fraction01 = 0.5
    max_candidates: Positive = 1000
    """Candidates (best class probability first) whose masks are built at all: bounds memory."""
    nms_pre: Positive = 500
    """Candidates (best score first) that enter Matrix NMS."""
    kernel: Literal["gaussian", "linear"] = "gaussian"
    sigma: Annotated[float, Field(gt=0)] = 2.0
    filter_threshold: Fraction01 = 0.05
    """Instances below this score after Matrix NMS are dropped."""
    max_instances: Positive = 100


class ModelSpec(_Spec):
    """A whole model."""

    architecture: Literal["decoupled_solo"] = "decoupled_solo"
    backbone: BackboneName = "resnet50"
    backbone_width: Positive = 64
    """Channels of a ResNet's stem."""
    fpn_channels: Positive = 256
    fpn_first: Literal[2, 3] = 2
    """Finest pyramid map: P2 (stride 4) or P3 (stride 8)."""
    head: HeadSpec
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    input: InputSpec = InputSpec()
    test: TestSpec = TestSpec()

    @model_validator(mode="after")
    def _levels_exist(self) -> Self:
        for level in self.head.levels:
            if level.pyramid < self.fpn_first:
                raise ValueError(f"head level P{level.pyramid} is finer than fpn_first P{self.fpn_first}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must be different names")
        return self
