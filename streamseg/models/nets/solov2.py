"""The head of SOLOv2: each cell predicts a kernel that is convolved with one shared mask feature."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from streamseg.models.nets.fpn import remap_levels
from streamseg.models.nets.head import pick_cells
from streamseg.models.nets.layers import (
    ConvNormReLU,
    align_to_grid,
    coordinates,
    output_conv,
    tower,
)
from streamseg.models.postprocess.blocks import at_once
from streamseg.models.postprocess.candidates import Candidates
from streamseg.models.spec import DeformableSpec, HeadSpec


@dataclass(frozen=True, slots=True)
class SoloV2Output:
    """B images, C classes, grid S, E kernel weights, masks at the finest map's stride (h, w)."""

    class_logits: list[Tensor]
    """(B, C, S, S)"""
    kernels: list[Tensor]
    """(B, E, S, S)"""
    mask_feature: Tensor
    """(B, E, h, w)"""

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of the masks of all levels."""
        height, width = self.mask_feature.shape[-2:]
        return height, width

    def soft_masks(self, level: int, image: int, rows: Tensor, columns: Tensor) -> Tensor:
        """See :class:`~streamseg.models.nets.head.HeadOutput`: the dynamic 1x1 convolution."""
        kernels = self.kernels[level][image, :, rows, columns]  # (E, n)
        feature = self.mask_feature[image]  # (E, h, w)
        # einsum would copy the feature and return the masks transposed when they are channels-last.
        logits = (kernels.T @ feature.flatten(1)).unflatten(1, feature.shape[1:])
        soft: Tensor = logits.float().sigmoid_()
        return soft

    def write_masks(self, out: Tensor, candidates: Candidates) -> None:
        """See :class:`~streamseg.models.nets.head.HeadOutput`.

        All kernels with some pixels of the feature after others, which are then read once.
        """
        kernels = pick_cells(self.kernels, candidates.cells)
        masks = out[:-1].unflatten(0, candidates.cells.shape).flatten(2)
        pixels = at_once(out.device, 4 * candidates.cells.numel())
        features = self.mask_feature.flatten(2).split(pixels, dim=2)
        for feature, target in zip(features, masks.split(pixels, dim=2), strict=True):
            torch.sigmoid(torch.bmm(kernels, feature).float(), out=target)

    def pictures(self, which: slice) -> "SoloV2Output":
        """See :class:`~streamseg.models.nets.head.HeadOutput`."""
        class_logits, kernels = ([x[which] for x in maps] for maps in (self.class_logits, self.kernels))
        return SoloV2Output(class_logits, kernels, self.mask_feature[which])

    def mask_tensors(self) -> list[Tensor]:
        """Every tensor that masks are made of."""
        return [*self.kernels, self.mask_feature]


class SoloV2Head(nn.Module):
    """Kernel and category towers, shared by all levels, and the mask feature."""

    def __init__(
        self, spec: HeadSpec, *, inputs: int, classes: int, first: int, deformable: DeformableSpec | None
    ) -> None:
        super().__init__()
        assert spec.mask_feature is not None
        self.spec, self.first = spec, first
        build = partial(
            tower, groups=spec.groups, deformable=deformable, separable=spec.towers == "separable"
        )
        self.kernel_tower = build(inputs + 2 * spec.coordinates, spec.channels, depth=spec.convs)
        self.class_tower = build(inputs, spec.channels, depth=spec.class_convs)
        self.kernel_output = output_conv(spec.channels, spec.mask_feature.outputs, bias=0.0)
        self.class_output = output_conv(spec.channels, classes)
        self.mask_feature = MaskFeature(spec, inputs=inputs, maps=6 - first, deformable=deformable)

    def forward(self, pyramid: Sequence[Tensor]) -> SoloV2Output:
        """``pyramid`` holds P_first..P6, (B, inputs, H, W) each."""
        kernels, class_logits = [], []
        maps = remap_levels(pyramid, self.spec.levels, first=self.first)
        for x, level in zip(maps, self.spec.levels, strict=True):
            # Brought to the grid one by one: joined, the maps would be copied at their full size.
            joined = [x] + [coordinates(x)] * self.spec.coordinates
            parts = [align_to_grid(part, level.grid, method=self.spec.alignment) for part in joined]
            kernels.append(self.kernel_output(self.kernel_tower(torch.cat(parts, dim=1))))
            class_logits.append(self.class_output(self.class_tower(parts[0])))
        return SoloV2Output(class_logits, kernels, self.mask_feature(pyramid[:-1]))


class MaskFeature(nn.Module):
    """Merge P_first..P5 into one map of E channels at P_first's stride (SOLOv2 paper, "Mask Feature").

    The finest map passes one convolution, each coarser one as many as it needs doublings. P5 also
    gets the coordinate channels.
    """

    def __init__(self, spec: HeadSpec, *, inputs: int, maps: int, deformable: DeformableSpec | None) -> None:
        super().__init__()
        assert spec.mask_feature is not None
        self.spec = spec
        channels = spec.mask_feature.channels
        version = deformable.version if deformable is not None and deformable.head == "all" else None
        branches = []
        for doublings in range(maps):
            extra = 2 * spec.coordinates if doublings == maps - 1 else 0
            layers: list[nn.Module] = []
            for width in [inputs + extra] + [channels] * (max(1, doublings) - 1):
                layers.append(ConvNormReLU(width, channels, groups=spec.groups, deformable=version))
                if doublings:
                    layers.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
            branches.append(nn.Sequential(*layers))
        self.branches = nn.ModuleList(branches)
        self.output = ConvNormReLU(
            channels, spec.mask_feature.outputs, groups=spec.groups, kernel_size=1, deformable=version
        )

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """P_first..P5 -> (B, E, h, w), h x w the size of P_first."""
        maps = list(pyramid)
        if self.spec.coordinates:
            maps[-1] = torch.cat((maps[-1], coordinates(maps[-1])), dim=1)
        parts = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        feature: Tensor = self.output(sum(parts[1:], start=parts[0]))
        return feature
