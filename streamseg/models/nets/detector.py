"""The whole network: images in, logits out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from streamseg.models.nets.backbones import build_backbone
from streamseg.models.nets.decoupled import DecoupledHead
from streamseg.models.nets.fpn import FPN
from streamseg.models.nets.ghost_pan import GhostPan
from streamseg.models.nets.head import HeadOutput
from streamseg.models.nets.solo import SoloHead
from streamseg.models.nets.solov2 import SoloV2Head
from streamseg.models.nets.windowed import WindowedHead
from streamseg.models.postprocess.detections import Postprocessor
from streamseg.models.spec import Architecture, DeformableSpec, HeadSpec, ModelSpec, TestSpec

Head = SoloHead | DecoupledHead | SoloV2Head | WindowedHead
_HEADS: dict[Architecture, type[SoloHead | DecoupledHead | SoloV2Head]] = {
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
    detail: int = 0,
    distractors: int = 0,
) -> Head:
    """Make a head with random weights for a pyramid P_first..P6 of ``inputs`` channels.

    ``detail``: channels of C2, and ``distractors``: classes that are not reported, for a head with boxes.
    """
    if spec.boxes is not None:
        return WindowedHead(
            spec, inputs=inputs, classes=classes, first=first, detail=detail, distractors=distractors
        )
    return _HEADS[architecture](spec, inputs=inputs, classes=classes, first=first, deformable=deformable)


class Detector(nn.Module):
    """Backbone, feature pyramid and head as a :class:`ModelSpec` describes them."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone(spec.backbone, width=spec.backbone_width, deformable=spec.deformable)
        inputs = self.backbone.channels[spec.pyramid_first - 2 :]
        self.neck = (
            FPN(inputs, spec.fpn_channels) if spec.ghost_pan is None else GhostPan(inputs, spec.ghost_pan)
        )
        self.head = build_head(
            spec.architecture,
            spec.head,
            inputs=spec.pyramid_channels,
            classes=len(spec.classes),
            first=spec.pyramid_first,
            deformable=spec.deformable,
            detail=self.backbone.channels[0],
            distractors=len(spec.distractors),
        )

    def forward(self, images: Tensor) -> HeadOutput:
        """(B, 3, H, W) normalised RGB, H and W multiples of 32 -> logits."""
        maps = self.backbone(images)
        pyramid = self.neck(maps[self.spec.pyramid_first - 2 :])
        output: HeadOutput
        output = self.head(pyramid, maps[0]) if isinstance(self.head, WindowedHead) else self.head(pyramid)
        return output

    def postprocessor(
        self, test: TestSpec, device: torch.device, class_ids: Sequence[int] | None = None
    ) -> Postprocessor:
        """What makes instances of the logits, on their device."""
        levels = self.spec.head.levels
        return Postprocessor(
            grids=[level.grid for level in levels],
            strides=[level.stride for level in levels],
            test=test,
            device=device,
            class_ids=class_ids,
        )
