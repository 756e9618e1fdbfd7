"""The small head that the reference numbers were computed with, and settings to go with it."""

from streamseg.models.spec import (
    Architecture,
    BackboneName,
    DeformableSpec,
    HeadSpec,
    LevelSpec,
    MaskFeatureSpec,
    ModelSpec,
    TestSpec,
)

ARCHITECTURES: tuple[Architecture, ...] = ("solo", "decoupled_solo", "solov2")
_PYRAMID = (2, 3, 4, 5, 6)
STRIDES = (8, 8, 16, 32, 32)
_GRIDS = (10, 8, 6, 5, 4)
_SCALES = ((1, 24), (12, 48), (24, 96), (48, 160), (96, 512))

LEVELS = tuple(
    LevelSpec(pyramid=p, stride=s, grid=g, scale=r)
    for p, s, g, r in zip(_PYRAMID, STRIDES, _GRIDS, _SCALES, strict=True)
)
SETTINGS = {
    "predA": TestSpec(),
    "predB": TestSpec(
        nms_pre=40,
        score_threshold=0.2,
        mask_threshold=0.4,
        filter_threshold=0.2,
        kernel="linear",
        max_instances=10,
    ),
    "predEmpty": TestSpec(score_threshold=0.9999),
}


def head_spec(*, light: bool = False) -> HeadSpec:
    return HeadSpec(channels=16, convs=2, class_convs=2, groups=4, shared_tower=light, levels=LEVELS)


def detector_spec(*, light: bool = False) -> ModelSpec:
    return ModelSpec(
        backbone="resnet18",
        backbone_width=8,
        fpn_channels=16,
        head=head_spec(light=light),
        classes=("a", "b", "c"),
    )


def tiny_spec(
    architecture: Architecture,
    *,
    backbone: BackboneName = "resnet18",
    deformable: DeformableSpec | None = None,
    **head: object,
) -> ModelSpec:
    feature = MaskFeatureSpec(channels=8, outputs=8) if architecture == "solov2" else None
    return ModelSpec(
        architecture=architecture,
        backbone=backbone,
        backbone_width=8,
        deformable=deformable,
        fpn_channels=16,
        head=HeadSpec(
            channels=8, convs=2, class_convs=2, groups=4, mask_feature=feature, levels=LEVELS, **head
        ),
        classes=("a", "b", "c"),
    )
