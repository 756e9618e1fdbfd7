"""The whole network: images in, detections out."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from streamseg.models.backbones import build_backbone
from streamseg.models.candidates import points_nms, select_candidates
from streamseg.models.decoupled import DecoupledHead, DecoupledOutput, candidate_masks
from streamseg.models.fpn import FPN, remap_levels
from streamseg.models.postprocess import Detections, refine
from streamseg.models.spec import ModelSpec, TestSpec


class Detector(nn.Module):
    """Backbone, feature pyramid and head as a :class:`ModelSpec` describes them."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone = build_backbone(spec.backbone, width=spec.backbone_width)
        self.neck = FPN(self.backbone.channels[spec.fpn_first - 2 :], spec.fpn_channels)
        self.head = DecoupledHead(spec.head, inputs=spec.fpn_channels, classes=len(spec.classes))

    def forward(self, images: Tensor) -> DecoupledOutput:
        """(B, 3, H, W) normalised RGB, H and W multiples of 32 -> logits."""
        maps = self.backbone(images)[self.spec.fpn_first - 2 :]
        levels = remap_levels(self.neck(maps), self.spec.head.levels, first=self.spec.fpn_first)
        output: DecoupledOutput = self.head(levels)
        return output

    def detect(
        self, output: DecoupledOutput, *, test: TestSpec | None = None, class_ids: Sequence[int] | None = None
    ) -> list[Detections]:
        """Post-process the logits of B images; ``class_ids`` restricts the classes looked for."""
        return detect(
            output,
            strides=[level.stride for level in self.spec.head.levels],
            test=test or self.spec.test,
            class_ids=class_ids,
        )


@torch.no_grad()
def detect(
    output: DecoupledOutput,
    *,
    strides: Sequence[int],
    test: TestSpec,
    class_ids: Sequence[int] | None = None,
) -> list[Detections]:
    """Post-process the logits of B images into B detections; see :class:`TestSpec`."""
    scores = [points_nms(logits.float().sigmoid()) for logits in output.class_logits]
    device = scores[0].device
    wanted = None if class_ids is None else torch.tensor(list(class_ids), dtype=torch.int64, device=device)
    stride_of_level = torch.tensor(list(strides), device=device)
    detections = []
    for image in range(len(scores[0])):
        candidates = select_candidates(
            [level[image] for level in scores],
            threshold=test.score_threshold,
            limit=test.max_candidates,
            class_ids=wanted,
        )
        soft_masks = candidate_masks(output, image, candidates)
        detections.append(refine(candidates, soft_masks, stride_of_level, test))
    return detections
