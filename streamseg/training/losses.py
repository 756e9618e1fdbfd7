"""Losses (SOLO paper, "Loss Function"), in float32 whatever the network ran in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from streamseg.models.nets.head import HeadOutput
from streamseg.models.nets.windowed import WindowedOutput
from streamseg.training.targets import LevelTargets
from streamseg.training.windowed_loss import windowed_loss

MaskLossName = Literal["dice", "focal", "bce", "dice_bce"]
_EPSILON = 1e-3
_SATURATED = 1e-6
"""Probabilities this close to 0 or 1 count as this: the logarithm stays finite."""
_BCE_POSITIVE_WEIGHT = 2.0
_SMALLEST = 9.0
"""Pixels: in :func:`dice_bce_loss` smaller objects count as of this size."""


@dataclass(frozen=True, slots=True)
class LossTerms:
    """Weighted parts of the total loss, scalars; their sum is minimised."""

    mask: Tensor
    """With the loss of the boxes, if cells have some."""
    classes: Tensor


@dataclass(frozen=True, slots=True)
class PositiveCounts:
    """How many positives a whole batch has: the sums of the losses are divided by these.

    A batch may be taken in parts, by several processes or one after the other. With the counts of
    all parts the losses of the parts add up to that of the batch, and so do their gradients.
    """

    masks: int
    """Positives: mask losses that are summed."""
    cells: int
    """Distinct positive cells."""

    @classmethod
    def of(cls, targets: Sequence[Sequence[LevelTargets]]) -> "PositiveCounts":
        """The counts of some images; ``targets`` is one list of levels per image."""
        levels = [level for image in targets for level in image]
        cells = sum((level.cells for level in levels), start=torch.zeros((), dtype=torch.int64))
        return cls(sum(len(level.rows) for level in levels), int(cells))


def dice_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """1 - dice coefficient per row: (n, ...) in [0, 1] against (n, ...) 0/1 -> (n,)."""
    p, q = probabilities.flatten(1), targets.flatten(1).to(probabilities.dtype)
    squares = (p * p).sum(dim=1) + (q * q).sum(dim=1) + 2 * _EPSILON
    return 1 - 2 * (p * q).sum(dim=1) / squares


def focal_mask_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean focal loss of the pixels of each row; shapes as in :func:`dice_loss`."""
    p, q = probabilities.flatten(1).clamp(_SATURATED, 1 - _SATURATED), targets.flatten(1).bool()
    miss = torch.where(q, 1 - p, p)
    weight = torch.where(q, 0.25, 0.75)
    return -(weight * miss.square() * torch.log1p(-miss)).mean(dim=1)


def bce_mask_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean binary cross-entropy of the pixels of each row, those of the object counted double."""
    p, q = probabilities.flatten(1).clamp(_SATURATED, 1 - _SATURATED), targets.flatten(1).bool()
    return -torch.where(q, _BCE_POSITIVE_WEIGHT * p.log(), torch.log1p(-p)).mean(dim=1)


def dice_bce_loss(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Dice loss plus a quarter of the cross-entropy summed over the pixels, per pixel of the object.

    Dice hardly tells a soft edge from a sharp one; the cross-entropy does. Divided by the object's and
    not the picture's size it is as large for small objects.
    """
    q = targets.to(probabilities.dtype)
    entropy = F.binary_cross_entropy(probabilities, q, reduction="none").flatten(1).sum(dim=1)
    return dice_loss(probabilities, q) + 0.25 * entropy / q.flatten(1).sum(dim=1).clamp(min=_SMALLEST)


MASK_LOSSES: dict[MaskLossName, tuple[Callable[[Tensor, Tensor], Tensor], float]] = {
    "dice": (dice_loss, 3.0),
    "focal": (focal_mask_loss, 20.0),
    "bce": (bce_mask_loss, 10.0),
    "dice_bce": (dice_bce_loss, 3.0),
}
"""The mask losses of the paper's ablation, with the weights it gave them; and one that is not from it."""


def focal_loss(logits: Tensor, targets: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss (Lin et al. 2017, equation 5) per element, stable for logits of any size."""
    p = logits.sigmoid()
    miss = torch.where(targets > 0, 1 - p, p)
    weight = torch.where(targets > 0, alpha, 1 - alpha)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return weight * miss.pow(gamma) * cross_entropy


def solo_loss(
    output: HeadOutput,
    targets: Sequence[Sequence[LevelTargets]],
    *,
    class_weights: Sequence[Tensor] | None = None,
    mask_loss: MaskLossName = "dice",
    mask_weight: float | None = None,
    counts: PositiveCounts | None = None,
) -> LossTerms:
    """Total loss of a batch, for every architecture.

    ``targets`` is one list of levels per image, on any device. ``class_weights`` holds (B, C, S, S)
    per level: 0 where it is unknown whether a cell shows a class. ``mask_weight`` None is the
    paper's for that mask loss. ``counts`` are those of the batch that these images are a part of;
    None: they are the whole batch.

    Mask loss: mean over all positives of the batch; if cells have boxes, that of the box loss is added.
    For SOLOv2 the positives are (cell, object) pairs, as in the authors' code; mmdetection divides the
    same sum by the number of distinct cells, which is larger where objects share a cell. Class loss:
    focal loss summed over cells and classes, over (distinct positive cells + 1). Without any positive
    the mask loss is 0 and still reaches the graph, so that no parameter is left without a gradient.
    """
    of_mask, default_weight = MASK_LOSSES[mask_loss]
    counts = counts or PositiveCounts.of(targets)
    # One element is enough to tie a tensor to the graph.
    mask = torch.stack([t[(0,) * t.ndim].float() * 0.0 for t in output.mask_tensors()]).sum()
    weight = default_weight if mask_weight is None else mask_weight
    levels = list(zip(*targets, strict=True))
    if isinstance(output, WindowedOutput):
        mask = mask + windowed_loss(output, targets, of_mask, weight)
    elif parts := [x for k, level in enumerate(levels) for x in _mask_losses(output, k, level, of_mask)]:
        mask = mask + weight * torch.cat(parts).sum()
    focal = [
        _level_focal(output.class_logits[k], level, None if class_weights is None else class_weights[k])
        for k, level in enumerate(levels)
    ]
    return LossTerms(mask / max(1, counts.masks), torch.stack(focal).sum() / (counts.cells + 1))


def _mask_losses(
    output: HeadOutput,
    level: int,
    targets: Sequence[LevelTargets],
    of_mask: Callable[[Tensor, Tensor], Tensor],
) -> list[Tensor]:
    """One (p,) tensor for each image that has positives on the level."""
    device = output.class_logits[level].device
    losses = []
    for image, target in enumerate(targets):
        if len(target.rows):
            soft = output.soft_masks(level, image, target.rows.to(device), target.columns.to(device))
            losses.append(of_mask(soft, target.masks.to(device)))
    return losses


def _level_focal(logits: Tensor, targets: Sequence[LevelTargets], weights: Tensor | None) -> Tensor:
    """Sum over the cells and classes of one level."""
    classes = logits.shape[1]
    class_ids = torch.stack([t.class_ids for t in targets]).to(logits.device)
    wanted = F.one_hot(class_ids, classes + 1)[..., :classes].permute(0, 3, 1, 2).float()
    loss = focal_loss(logits.float(), wanted)
    return (loss if weights is None else loss * weights.to(logits.device)).sum()
