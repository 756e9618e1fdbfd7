"""The head of Decoupled SOLO (SOLO paper, "Decoupled SOLO").

The mask of the object whose centre lies in row i, column j of a grid is the product of two soft
maps: X_j, "pixels of objects centred in column j", and Y_i, the same for row i.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from streamseg.models.nets.fpn import remap_levels
from streamseg.models.nets.layers import (
    align_to_grid,
    coordinates,
    double,
    once_per_map,
    output_conv,
    resize,
    tower,
)
from streamseg.models.postprocess.candidates import Candidates
from streamseg.models.spec import DeformableSpec, HeadSpec


@dataclass(frozen=True, slots=True)
class DecoupledOutput:
    """Logits per level: B images, C classes, grid S, masks at half the level's stride (h, w)."""

    class_logits: list[Tensor]
    """(B, C, S, S)"""
    mask_x: list[Tensor]
    """(B, S, h, w)"""
    mask_y: list[Tensor]
    """(B, S, h, w)"""

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of the finest level's masks."""
        height, width = self.mask_x[0].shape[-2:]
        return height, width

    def soft_masks(self, level: int, image: int, rows: Tensor, columns: Tensor) -> Tensor:
        """See :class:`~streamseg.models.nets.head.HeadOutput`."""
        soft_x = self.mask_x[level][image, columns].float().sigmoid_()  # in place: it is a copy already
        soft_y = self.mask_y[level][image, rows].float().sigmoid_()
        return soft_x * soft_y

    def write_masks(self, out: Tensor, candidates: Candidates) -> None:
        """See :class:`~streamseg.models.nets.head.HeadOutput`."""
        image = torch.arange(len(candidates.cells), device=out.device)[:, None]
        size = out.shape[1:]
        for level, wanted in enumerate(candidates.of_levels()):
            for columns, rows, places in wanted.chunks(wanted.columns, wanted.rows, size=4 * out[0].numel()):
                soft = _lines(self.mask_x[level], image, columns, size)
                soft *= _lines(self.mask_y[level], image, rows, size)
                out.index_copy_(0, places, soft.flatten(0, 1))

    def pictures(self, which: slice) -> "DecoupledOutput":
        """See :class:`~streamseg.models.nets.head.HeadOutput`."""
        class_logits, mask_x, mask_y = (
            [x[which] for x in maps] for maps in (self.class_logits, self.mask_x, self.mask_y)
        )
        return DecoupledOutput(class_logits, mask_x, mask_y)

    def mask_tensors(self) -> list[Tensor]:
        """Every tensor that masks are made of."""
        return [*self.mask_x, *self.mask_y]


def _lines(logits: Tensor, image: Tensor, wanted: Tensor, size: Sequence[int]) -> Tensor:
    """Soft masks (B, n, *size) of the ``wanted`` (B, n) of S lines (B, S, h, w); ``image`` (B, 1) numbers B.

    If more are wanted than there are, some twice, all are resized first.
    """
    if wanted.shape[1] < logits.shape[1]:
        return resize(logits[image, wanted].float().sigmoid(), size)
    return resize(logits.float().sigmoid(), size)[image, wanted]


class DecoupledHead(nn.Module):
    """Towers are shared by all levels, the mask outputs are one per level."""

    def __init__(
        self, spec: HeadSpec, *, inputs: int, classes: int, first: int, deformable: DeformableSpec | None
    ) -> None:
        super().__init__()
        self.spec, self.first = spec, first
        build = partial(
            tower, groups=spec.groups, deformable=deformable, separable=spec.towers == "separable"
        )
        if spec.shared_tower:
            self.mask_tower = build(inputs + 2 * spec.coordinates, spec.channels, depth=spec.convs)
        else:
            self.mask_tower_x = build(inputs + spec.coordinates, spec.channels, depth=spec.convs)
            self.mask_tower_y = build(inputs + spec.coordinates, spec.channels, depth=spec.convs)
        self.class_tower = build(inputs, spec.channels, depth=spec.class_convs)
        self.mask_outputs_x = nn.ModuleList(output_conv(spec.channels, level.grid) for level in spec.levels)
        self.mask_outputs_y = nn.ModuleList(output_conv(spec.channels, level.grid) for level in spec.levels)
        self.class_output = output_conv(spec.channels, classes)

    def forward(self, pyramid: Sequence[Tensor]) -> DecoupledOutput:
        """``pyramid`` holds P_first..P6, (B, inputs, H, W) each."""
        maps = remap_levels(pyramid, self.spec.levels, first=self.first)
        mask_x, mask_y = [], []
        for level, (x, y) in enumerate(once_per_map(self._mask_features, maps)):
            mask_x.append(self.mask_outputs_x[level](x))
            mask_y.append(self.mask_outputs_y[level](y))
        class_logits = [
            self.class_output(self.class_tower(align_to_grid(x, level.grid, method=self.spec.alignment)))
            for x, level in zip(maps, self.spec.levels, strict=True)
        ]
        return DecoupledOutput(class_logits, mask_x, mask_y)

    def _mask_features(self, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Tower features for X and Y at twice the resolution of ``feature``."""
        xy = coordinates(feature) if self.spec.coordinates else feature[:, :0]
        if self.spec.shared_tower:
            both = double(self.mask_tower(torch.cat((feature, xy), dim=1)))
            return both, both
        x = self.mask_tower_x(torch.cat((feature, xy[:, :1]), dim=1))
        y = self.mask_tower_y(torch.cat((feature, xy[:, 1:]), dim=1))
        return double(x), double(y)
