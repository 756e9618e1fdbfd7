"""The mask and box losses of cells with windows: all masks of an image in one product."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from streamseg.models.nets.windowed import WindowedOutput
from streamseg.training.targets import LevelTargets

BOX_WEIGHT = 1.0
"""Of the box loss, beside a mask loss with its weight."""


def windowed_loss(
    output: WindowedOutput,
    targets: Sequence[Sequence[LevelTargets]],
    of_mask: Callable[[Tensor, Tensor], Tensor],
    weight: float,
) -> Tensor:
    """Sum over all positives of ``weight`` times the mask loss, plus 1 - GIoU of their boxes. A scalar.

    ``targets`` is one list of levels per image. GIoU is that of Rezatofighi et al. 2019.
    """
    device = output.mask_feature.device
    total = torch.zeros((), device=device)
    for image, levels in zip(output.images(), targets, strict=True):
        if not any(len(level.rows) for level in levels):
            continue
        cells = [torch.stack((level.rows, level.columns), dim=1).to(device) for level in levels]
        masks = torch.cat([level.masks for level in levels]).to(device)
        boxes = torch.cat([level.boxes for level in levels]).to(device)
        of_boxes = generalized_box_iou_loss(image.boxes(0, cells), boxes)
        total = (
            total + weight * of_mask(image.cell_masks(0, cells), masks).sum() + BOX_WEIGHT * of_boxes.sum()
        )
    return total
