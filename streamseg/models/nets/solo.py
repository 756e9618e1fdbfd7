"""The head of SOLO (SOLO paper, "Network Architecture"): one mask channel for every cell of the grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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
class SoloOutput:
    """B images, C classes, grid S, feature maps of the level's stride (H, W), masks twice that."""

    class_logits: list[Tensor]
    """(B, C, S, S)"""
    features: list[Tensor]
    """(B, channels, H, W)"""
    weights: list[Tensor]
    """(S*S, channels, 1, 1): the 1x1 convolution to the mask of cell row * S + column."""
    biases: list[Tensor]
    """(S*S,)"""

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of the finest level's masks."""
        height, width = self.features[0].shape[-2:]
        return 2 * height, 2 * width

    def soft_masks(self, level: int, image: int, rows: Tensor, columns: Tensor) -> Tensor:
        """See :class:`~streamseg.models.nets.head.HeadOutput`.

        The paper doubles the features and convolves them with all S*S kernels. A 1x1 convolution
        and an interpolation commute, so the few channels wanted are computed first and doubled
        after: a quarter of the work, and the S*S masks never exist (1 GB at 800 x 1344).
        """
        cells = rows * self.class_logits[level].shape[-1] + columns
        logits = F.conv2d(
            self.features[level][image : image + 1], self.weights[level][cells], self.biases[level][cells]
        )
        return double(logits.float()).sigmoid_()[0]

    def write_masks(self, out: Tensor, candidates: Candidates) -> None:
        """See :class:`~streamseg.models.nets.head.HeadOutput`."""
        for level, wanted in enumerate(candidates.of_levels()):
            feature = self.features[level]
            for cells, places in wanted.chunks(wanted.numbers, size=4 * out[0].numel()):
                kernels, biases = self.weights[level].flatten(1)[cells], self.biases[level][cells]
                logits = torch.baddbmm(biases[..., None], kernels, feature.flatten(2))
                soft = double(logits.unflatten(2, feature.shape[2:]).float()).sigmoid_()
                out.index_copy_(0, places, resize(soft, out.shape[1:]).flatten(0, 1))

    def pictures(self, which: slice) -> "SoloOutput":
        """See :class:`~streamseg.models.nets.head.HeadOutput`."""
        class_logits, features = ([x[which] for x in maps] for maps in (self.class_logits, self.features))
        return SoloOutput(class_logits, features, self.weights, self.biases)

    def mask_tensors(self) -> list[Tensor]:
        """Every tensor that masks are made of."""
        return [*self.features, *self.weights, *self.biases]


class SoloHead(nn.Module):
    """Towers are shared by all levels, the mask outputs are one per level."""

    def __init__(
        self, spec: HeadSpec, *, inputs: int, classes: int, first: int, deformable: DeformableSpec | None
    ) -> None:
        super().__init__()
        self.spec, self.first = spec, first
        build = partial(
            tower, groups=spec.groups, deformable=deformable, separable=spec.towers == "separable"
        )
        self.mask_tower = build(inputs + 2 * spec.coordinates, spec.channels, depth=spec.convs)
        self.class_tower = build(inputs, spec.channels, depth=spec.class_convs)
        outputs = [output_conv(spec.channels, level.grid**2, kernel_size=1) for level in spec.levels]
        self.mask_outputs = nn.ModuleList(outputs)
        self.class_output = output_conv(spec.channels, classes)

    def forward(self, pyramid: Sequence[Tensor]) -> SoloOutput:
        """``pyramid`` holds P_first..P6, (B, inputs, H, W) each."""
        maps = remap_levels(pyramid, self.spec.levels, first=self.first)
        class_logits = [
            self.class_output(self.class_tower(align_to_grid(x, level.grid, method=self.spec.alignment)))
            for x, level in zip(maps, self.spec.levels, strict=True)
        ]
        return SoloOutput(
            class_logits,
            features=once_per_map(self._mask_features, maps),
            weights=[conv.get_parameter("weight") for conv in self.mask_outputs],
            biases=[conv.get_parameter("bias") for conv in self.mask_outputs],
        )

    def _mask_features(self, x: Tensor) -> Tensor:
        if self.spec.coordinates:
            x = torch.cat((x, coordinates(x)), dim=1)
        features: Tensor = self.mask_tower(x)
        return features
