"""SOLOv2 with a box head's category branch: each cell has a class, a kernel and a window for its mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from streamseg.models.nets.depthwise import SeparableLeakyReLU
from streamseg.models.nets.detail import ConvLeakyReLU, DetailMaskFeature
from streamseg.models.nets.fpn import remap_levels
from streamseg.models.nets.head import of_cells, pick_cells
from streamseg.models.nets.layers import align_to_grid, coordinates, output_conv
from streamseg.models.nets.windows import Windows, box_distances, cell_boxes, make_windows
from streamseg.models.postprocess.blocks import at_once
from streamseg.models.postprocess.candidates import Candidates
from streamseg.models.spec import DETAIL_STRIDE, BoxBranchSpec, HeadSpec

_HIDDEN = -10.0
"""Logit of a class in a cell that shows a distractor."""


@dataclass(frozen=True, slots=True)
class WindowedOutput:
    """B images, C classes, grid S, E kernel weights, K knots, masks (h, w) of stride 4."""

    class_logits: list[Tensor]
    """(B, C, S, S)"""
    kernels: list[Tensor]
    """(B, E, S, S)"""
    windows: list[Tensor]
    """(B, 4 + 2K, S, S) float32: x1, y1, x2, y2 in canvas pixels, then K values along x and K along y."""
    mask_feature: Tensor
    """(B, E, h, w)"""

    @property
    def mask_size(self) -> tuple[int, int]:
        """Height and width of the masks of all levels."""
        height, width = self.mask_feature.shape[-2:]
        return height, width

    def images(self) -> "list[WindowedOutput]":
        """Each image for itself, as a batch of one: gradients come together once and not per mask."""
        class_logits, kernels, windows = (
            list(zip(*(x.split(1) for x in maps), strict=True))
            for maps in (self.class_logits, self.kernels, self.windows)
        )
        features = self.mask_feature.split(1)
        return [
            WindowedOutput(list(of_class), list(of_kernel), list(of_window), feature)
            for of_class, of_kernel, of_window, feature in zip(
                class_logits, kernels, windows, features, strict=True
            )
        ]

    def soft_masks(self, level: int, image: int, rows: Tensor, columns: Tensor) -> Tensor:
        """See :class:`~streamseg.models.nets.head.HeadOutput`: a dynamic 1x1 convolution plus the windows."""
        none = rows.new_zeros((0, 2))
        cells = [none] * len(self.kernels)
        cells[level] = torch.stack((rows, columns), dim=1)
        return self.cell_masks(image, cells)

    def cell_masks(self, image: int, cells: Sequence[Tensor]) -> Tensor:
        """Soft masks of N cells of one image, (N, h, w) float32; ``cells`` (n, 2) per level."""
        kernels, window = of_cells(self.kernels, image, cells), self._windows(image, cells)
        feature = self.mask_feature.squeeze(0) if len(self.mask_feature) == 1 else self.mask_feature[image]
        logits = (kernels @ feature.flatten(1)).unflatten(1, self.mask_size)
        soft: Tensor = (logits.float() + window.x[:, None, :] + window.y[:, :, None]).sigmoid()
        return soft

    def write_masks(self, out: Tensor, candidates: Candidates) -> None:
        """See :class:`~streamseg.models.nets.head.HeadOutput`.

        All kernels with some rows of the feature after others, which are then read once.
        """
        kernels = pick_cells(self.kernels, candidates.cells)
        windows = pick_cells(self.windows, candidates.cells).flatten(0, 1)
        x, y = make_windows(windows, self.mask_size, stride=DETAIL_STRIDE)
        rows = at_once(out.device, 4 * out[0].shape[1] * len(windows))
        parts = (self.mask_feature.split(rows, dim=2), y.split(rows, dim=1), out[:-1].split(rows, dim=1))
        for feature, beside, target in zip(*parts, strict=True):
            logits = torch.bmm(kernels, feature.flatten(2)).float().view(target.shape)
            logits += x[:, None, :]
            logits += beside[:, :, None]
            torch.sigmoid(logits, out=target)

    def pictures(self, which: slice) -> "WindowedOutput":
        """See :class:`~streamseg.models.nets.head.HeadOutput`."""
        class_logits, kernels, windows = (
            [x[which] for x in maps] for maps in (self.class_logits, self.kernels, self.windows)
        )
        return WindowedOutput(class_logits, kernels, windows, self.mask_feature[which])

    def boxes(self, image: int, cells: Sequence[Tensor]) -> Tensor:
        """Boxes of N cells of one image, (N, 4) float32 x1, y1, x2, y2 in canvas pixels."""
        return of_cells(self.windows, image, cells)[:, :4]

    def _windows(self, image: int, cells: Sequence[Tensor]) -> Windows:
        return make_windows(of_cells(self.windows, image, cells), self.mask_size, stride=DETAIL_STRIDE)

    def mask_tensors(self) -> list[Tensor]:
        """Every tensor that masks are made of."""
        return [*self.kernels, *self.windows, self.mask_feature]


class WindowedHead(nn.Module):
    """Category towers, one for each level; a kernel branch shared by all; the mask feature."""

    def __init__(
        self,
        spec: HeadSpec,
        *,
        inputs: int,
        classes: int,
        first: int,
        detail: int,
        distractors: int = 0,
    ) -> None:
        """``inputs``: channels of the pyramid P_first..P6. ``detail``: channels of C2."""
        super().__init__()
        assert spec.mask_feature is not None
        assert spec.boxes is not None
        self.spec, self.first, self.boxes = spec, first, spec.boxes
        boxes, outputs = spec.boxes, spec.mask_feature.outputs
        self.class_tower = nn.ModuleList(_box_tower(inputs, boxes) for _ in spec.levels)
        self.class_output = nn.ModuleList(output_conv(inputs, classes, kernel_size=1) for _ in spec.levels)
        self.class_distractors = nn.ModuleList(
            output_conv(inputs, distractors, kernel_size=1).requires_grad_(False)
            for _ in (spec.levels if distractors else ())
        )
        self.box_output = nn.ModuleList(
            output_conv(inputs, 4 * boxes.bins, kernel_size=1, bias=0.0) for _ in spec.levels
        )
        joined = 2 * inputs + 2 * spec.coordinates
        separable = partial(SeparableLeakyReLU, kernel_size=boxes.kernel_size)
        layer = separable if spec.towers == "separable" else ConvLeakyReLU
        self.kernel_tower = nn.Sequential(
            ConvLeakyReLU(joined, spec.channels, kernel_size=1),
            *(layer(spec.channels, spec.channels) for _ in range(spec.convs)),
        )
        self.kernel_output: KernelOutput | SplitKernelOutput = KernelOutput(
            spec.channels, outputs, knots=boxes.knots
        )
        self.mask_feature = DetailMaskFeature(spec.mask_feature, inputs=inputs, maps=6 - first, detail=detail)

    def forward(self, pyramid: Sequence[Tensor], detail: Tensor) -> WindowedOutput:
        """``pyramid`` holds P_first..P6, (B, inputs, H, W) each; ``detail`` is C2 of stride 4."""
        canvas = (detail.shape[-2] * DETAIL_STRIDE, detail.shape[-1] * DETAIL_STRIDE)
        class_logits, kernels, windows = [], [], []
        maps = remap_levels(pyramid, self.spec.levels, first=self.first)
        for index, (x, level) in enumerate(zip(maps, self.spec.levels, strict=True)):
            # Brought to the grid one by one: joined, the maps would be copied at their full size.
            joined = [x, self.class_tower[index](x)] + [coordinates(x)] * self.spec.coordinates
            parts = [align_to_grid(part, level.grid, method=self.spec.alignment) for part in joined]
            cells, objects = torch.cat(parts, dim=1), parts[1]
            class_logits.append(self._classes(index, objects))
            distances = box_distances(self.box_output[index](objects), bins=self.boxes.bins)
            kernel, profiles = self.kernel_output.parts(self.kernel_tower(cells))
            kernels.append(kernel)
            windows.append(torch.cat((cell_boxes(distances, level, canvas), profiles.float()), dim=1))
        return WindowedOutput(class_logits, kernels, windows, self.mask_feature(pyramid[:-1], detail))

    def _classes(self, index: int, objects: Tensor) -> Tensor:
        """Class logits of a level; in training those of cells that show a distractor too."""
        logits: Tensor = self.class_output[index](objects)
        if self.training or not self.class_distractors:
            return logits
        return _hide(logits, self.class_distractors[index](objects))


class KernelOutput(nn.Conv2d):
    """From a cell's features to its kernel, of ``outputs`` values, and the profiles of its window."""

    def __init__(self, inputs: int, outputs: int, *, knots: int) -> None:
        super().__init__(inputs, outputs + 2 * knots, kernel_size=1)
        assert self.bias is not None
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)
        self.sizes = (outputs, knots, knots)
        """Of the kernel, and of the profiles along x and along y."""

    def parts(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs, S, S) -> (B, outputs, S, S) and (B, 2 * knots, S, S)."""
        outputs, *knots = self.sizes
        kernel, profiles = self(cells).split([outputs, sum(knots)], dim=1)
        return kernel, profiles


class SplitKernelOutput(nn.Module):
    """The same as two convolutions, for inference: OpenVINO takes long to split a map's channels."""

    def __init__(self, kernel: nn.Conv2d, profiles: nn.Conv2d) -> None:
        super().__init__()
        self.kernel, self.profiles = kernel, profiles

    def parts(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """As :meth:`KernelOutput.parts`."""
        return self.kernel(cells), self.profiles(cells)


def _hide(logits: Tensor, others: Tensor) -> Tensor:
    """(B, C, S, S) logits, at most -10 in cells where one of ``others`` (B, D, S, S) is above all of them."""
    hidden = logits.amax(dim=1, keepdim=True) < others.amax(dim=1, keepdim=True)
    return torch.where(hidden, logits.clamp(max=_HIDDEN), logits)


def _box_tower(channels: int, spec: BoxBranchSpec) -> nn.Sequential:
    return nn.Sequential(
        *(SeparableLeakyReLU(channels, channels, kernel_size=spec.kernel_size) for _ in range(spec.convs))
    )
