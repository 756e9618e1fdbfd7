"""The head of Decoupled SOLO (ECCV paper, section 3.4).

The mask of the object whose centre lies in row i, column j of a grid is the product of two soft
maps: X_j, "pixels of objects centred in column j", and Y_i, the same for row i.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamseg.models.candidates import Candidates
from streamseg.models.layers import coordinates, output_conv, resize_to_grid, tower
from streamseg.models.spec import HeadSpec


@dataclass(frozen=True, slots=True)
class DecoupledOutput:
    """Logits per level: B images, C classes, grid S, masks at half the level's stride (h, w)."""

    class_logits: list[Tensor]
    """(B, C, S, S)"""
    mask_x: list[Tensor]
    """(B, S, h, w)"""
    mask_y: list[Tensor]
    """(B, S, h, w)"""


class DecoupledHead(nn.Module):
    """Towers are shared by all levels, the mask outputs are one per level."""

    def __init__(self, spec: HeadSpec, *, inputs: int, classes: int) -> None:
        super().__init__()
        self.grids = [level.grid for level in spec.levels]
        mask = {"depth": spec.convs, "groups": spec.groups}
        if spec.shared_tower:
            self.mask_tower = tower(inputs + 2, spec.channels, **mask)
        else:
            self.mask_tower_x = tower(inputs + 1, spec.channels, **mask)
            self.mask_tower_y = tower(inputs + 1, spec.channels, **mask)
        self.shared_tower = spec.shared_tower
        self.class_tower = tower(inputs, spec.channels, depth=spec.class_convs, groups=spec.groups)
        self.mask_outputs_x = nn.ModuleList(output_conv(spec.channels, s) for s in self.grids)
        self.mask_outputs_y = nn.ModuleList(output_conv(spec.channels, s) for s in self.grids)
        self.class_output = output_conv(spec.channels, classes)

    def forward(self, features: Sequence[Tensor]) -> DecoupledOutput:
        """``features`` holds one map (B, inputs, H, W) per level; the same tensor is computed once."""
        towers = {id(x): self._mask_features(x) for x in {id(x): x for x in features}.values()}
        mask_x, mask_y = [], []
        for level, feature in enumerate(features):
            x, y = towers[id(feature)]
            mask_x.append(self.mask_outputs_x[level](x))
            mask_y.append(self.mask_outputs_y[level](y))
        class_logits = [
            self.class_output(self.class_tower(resize_to_grid(feature, grid)))
            for feature, grid in zip(features, self.grids, strict=True)
        ]
        return DecoupledOutput(class_logits, mask_x, mask_y)

    def _mask_features(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Tower features for X and Y at twice the resolution of ``feature``."""
        xy = coordinates(feature)
        if self.shared_tower:
            both = _double(self.mask_tower(torch.cat((feature, xy), dim=1)))
            return both, both
        x = self.mask_tower_x(torch.cat((feature, xy[:, :1]), dim=1))
        y = self.mask_tower_y(torch.cat((feature, xy[:, 1:]), dim=1))
        return _double(x), _double(y)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def candidate_masks(output: DecoupledOutput, image: int, candidates: Candidates) -> Tensor:
    """Soft masks of the candidates of one image, and of them only.

    Returns (N, h, w) float32 in [0, 1] at the resolution of level 0. Sigmoid comes before the
    resizing and the product after it, as in the published code.
    """
    size = output.mask_x[0].shape[-2:]
    masks = []
    for x, y, rows, columns in zip(
        output.mask_x, output.mask_y, *candidates.cells_by_level(len(output.mask_x)), strict=True
    ):
        soft_x = _resize(x[image, columns].float().sigmoid(), size)
        soft_y = _resize(y[image, rows].float().sigmoid(), size)
        masks.append(soft_x * soft_y)
    return torch.cat(masks)


def _resize(masks: Tensor, size: Sequence[int]) -> Tensor:
    if masks.shape[-2:] == tuple(size) or not len(masks):
        return masks.reshape(len(masks), *size)
    return F.interpolate(masks[None], size=tuple(size), mode="bilinear", align_corners=False)[0]
