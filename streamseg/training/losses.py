"""Losses (ECCV paper, section 3.3.2), in float32 whatever the network ran in."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from streamseg.models.decoupled import DecoupledOutput
from streamseg.training.targets import LevelTargets

_EPSILON = 1e-3


@dataclass(frozen=True, slots=True)
class Losses:
    """Weighted parts of the total loss, scalars."""

    mask: Tensor
    classes: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.mask + self.classes


def dice_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """1 - dice coefficient per row: (n, ...) in [0, 1] against (n, ...) 0/1 -> (n,)."""
    p, q = probabilities.flatten(1), targets.flatten(1).to(probabilities.dtype)
    squares = (p * p).sum(dim=1) + (q * q).sum(dim=1) + 2 * _EPSILON
    return 1 - 2 * (p * q).sum(dim=1) / squares


def focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss (Lin et al. 2017, equation 5) per element, stable for logits of any size."""
    p = logits.sigmoid()
    miss = torch.where(targets > 0, 1 - p, p)
    weight = torch.where(targets > 0, alpha, 1 - alpha)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return weight * miss.pow(gamma) * cross_entropy


def decoupled_loss(
    output: DecoupledOutput,
    targets: Sequence[Sequence[LevelTargets]],
    *,
    class_weights: Sequence[Tensor] | None = None,
    mask_weight: float = 3.0,
) -> Losses:
    """Total loss of a batch.

    ``targets`` is one list of levels per image, on any device. ``class_weights`` holds (B, C, S, S)
    per level: 0 where it is unknown whether a cell shows a class. Mask loss: mean dice of all
    positive cells of the batch; class loss: focal loss summed over cells and classes, over
    (positives + 1). Without any positive the mask loss is 0 and still reaches the graph.
    """
    by_level = list(zip(*targets, strict=True))
    dice, focal, positives = [], [], 0
    for level, level_targets in enumerate(by_level):
        dice.append(_level_dice(output.mask_x[level], output.mask_y[level], level_targets))
        weights = None if class_weights is None else class_weights[level]
        focal.append(_level_focal(output.class_logits[level], level_targets, weights))
        positives += sum(len(t.rows) for t in level_targets)
    untouched = (
        sum((m.sum() for m in (*output.mask_x, *output.mask_y)), start=output.mask_x[0].new_zeros(())) * 0.0
    )
    mask = torch.cat(dice).mean() * mask_weight if positives else untouched.float()
    return Losses(mask, torch.stack(focal).sum() / (positives + 1))


def _level_dice(mask_x: Tensor, mask_y: Tensor, targets: Sequence[LevelTargets]) -> Tensor:
    """(positives of the level,) dice losses."""
    device = mask_x.device
    image = torch.cat([torch.full_like(t.rows, i) for i, t in enumerate(targets)]).to(device)
    columns = torch.cat([t.columns for t in targets]).to(device)
    rows = torch.cat([t.rows for t in targets]).to(device)
    soft = mask_x[image, columns].float().sigmoid() * mask_y[image, rows].float().sigmoid()
    return dice_loss(soft, torch.cat([t.masks for t in targets]).to(device))


def _level_focal(logits: Tensor, targets: Sequence[LevelTargets], weights: Tensor | None) -> Tensor:
    """Sum over the cells and classes of one level."""
    classes = logits.shape[1]
    class_ids = torch.stack([t.class_ids for t in targets]).to(logits.device)
    wanted = F.one_hot(class_ids, classes + 1)[..., :classes].permute(0, 3, 1, 2).float()
    loss = focal_loss(logits.float(), wanted)
    return (loss if weights is None else loss * weights.to(logits.device)).sum()
