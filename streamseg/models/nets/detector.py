"""The whole network: images in, detections out."""

from collections.abc import Sequence

from torch import Tensor, nn

from streamseg.models.nets.backbones import build_backbone
from streamseg.models.nets.decoupled import DecoupledHead
from streamseg.models.nets.fpn import FPN
from streamseg.models.nets.head import HeadOutput
from streamseg.models.nets.solo import SoloHead
from streamseg.models.nets.solov2 import SoloV2Head
from streamseg.models.postprocess.detections import Detections, detect
from streamseg.models.spec import Architecture, DeformableSpec, HeadSpec, ModelSpec, TestSpec

Head = SoloHead | DecoupledHead | SoloV2Head
_HEADS: dict[Architecture, type[Head]] = {
    "solo": SoloHead,
    "decoupled_solo": DecoupledHead,
    "solov2": SoloV2Head,
}


def build_head(
    architecture: Architecture,
    spec: HeadSpec,
    *,
    inputs: int,
    classes: int,
    first: int = 2,
    deformable: DeformableSpec | None = None,
) -> Head:
    """Make a head with random weights for a pyramid P_first..P6 of ``inputs`` channels."""
    return _HEADS[architecture](spec, inputs=inputs, classes=classes, first=first, deformable=deformable)


class Detector(nn.Module):
    """Backbone, feature pyramid and head as a :class:`ModelSpec` describes them."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone(spec.backbone, width=spec.backbone_width, deformable=spec.deformable)
        self.neck = FPN(self.backbone.channels[spec.fpn_first - 2 :], spec.fpn_channels)
        self.head = build_head(
            spec.architecture,
            spec.head,
            inputs=spec.fpn_channels,
            classes=len(spec.classes),
            first=spec.fpn_first,
            deformable=spec.deformable,
        )

    def forward(self, images: Tensor) -> HeadOutput:
        """(B, 3, H, W) normalised RGB, H and W multiples of 32 -> logits."""
        output: HeadOutput = self.head(self.neck(self.backbone(images)[self.spec.fpn_first - 2 :]))
        return output

    def detect(
        self, output: HeadOutput, *, test: TestSpec | None = None, class_ids: Sequence[int] | None = None
    ) -> list[Detections]:
        """Post-process the logits of B images; ``class_ids`` restricts the classes looked for."""
        return detect(
            output,
            strides=[level.stride for level in self.spec.head.levels],
            test=test or self.spec.test,
            class_ids=class_ids,
        )
