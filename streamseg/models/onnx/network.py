"""The detector as one network with outputs of fixed size, which can be written as an ONNX graph.

A list whose length depends on the picture would cost ONNX a loop, so every picture gets the same
number of candidates and of slots for instances, however many it has. From the pictures to the best
scores this computes what :mod:`streamseg.models.postprocess.detections` does, for a whole batch at once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from streamseg.models.nets.decoupled import DecoupledOutput
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.head import HeadOutput
from streamseg.models.nets.layers import double, resize
from streamseg.models.nets.solo import SoloOutput
from streamseg.models.nets.solov2 import SoloV2Output
from streamseg.models.nets.windowed import WindowedOutput
from streamseg.models.nets.windows import make_windows
from streamseg.models.postprocess.candidates import flat_cells, make_grids, points_nms
from streamseg.models.postprocess.maskness import score_masks
from streamseg.models.postprocess.matrix_nms import matrix_nms
from streamseg.models.spec import DETAIL_STRIDE, TestSpec


class OnnxNetwork(nn.Module):
    """Pictures in, the K best instances of each out; K is the model's ``max_instances``."""

    mean: Tensor
    inverse_std: Tensor
    cells: Tensor
    neighbours: Tensor

    def __init__(self, detector: Detector, *, candidates: int) -> None:
        """``candidates``, 1 or more: pairs of cell and class, most probable first, that get a mask."""
        super().__init__()
        spec = detector.spec
        self.detector, self.test = detector, spec.test
        levels = spec.head.levels
        grids = make_grids([level.grid for level in levels])
        before = torch.tensor([0, *(level.grid for level in levels)]).cumsum(dim=0)
        rows, columns = (grids.places[:, :2] + before[grids.levels][:, None]).unbind(dim=1)
        strides = torch.tensor([level.stride for level in levels])[grids.levels]
        self.candidates = min(candidates, len(spec.classes) * len(rows))
        self.register_buffer("mean", torch.tensor(spec.input.mean))
        self.register_buffer("inverse_std", 1 / torch.tensor(spec.input.std))
        # (4, cells): level, stride, row and column; these two are counted on from level to level.
        self.register_buffer("cells", torch.stack((grids.levels, strides, rows, columns)))
        self.register_buffer("neighbours", grids.neighbours)

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, H, W, 3) uint8 RGB and (B, 2) int64 -> class ids, scores and soft masks.

        ``images`` are canvases, H and W multiples of 32. The picture of each lies in the upper left
        corner, ``sizes`` holds its height and width, and what is beside it does not matter.

        Returns (B, K) int64, (B, K) float32 and (B, K, h, w) float32 in [0, 1] over the canvas, h x w
        the size of the finest level's masks, best score first. An empty slot has class -1, score 0 and
        an empty mask.
        """
        output: HeadOutput = self.detector(self._normalise(images, sizes))
        probabilities, cells, class_ids = self._candidates(output.class_logits)
        levels, strides, rows, columns = self.cells[:, cells]
        if isinstance(output, DecoupledOutput):
            masks = _decoupled_masks(output, rows, columns)
        elif isinstance(output, SoloV2Output):
            masks = _solov2_masks(output, cells)
        elif isinstance(output, WindowedOutput):
            masks = _windowed_masks(output, cells)
        else:
            assert isinstance(output, SoloOutput)
            masks = _solo_masks(output, cells, levels)
        scores, order = _rank(probabilities, class_ids, strides, masks, self.test)
        used = scores > 0
        class_ids = torch.where(used, _pick(class_ids, order), -1)
        return class_ids, scores, _pick(masks, order) * used[..., None, None]

    def _normalise(self, images: Tensor, sizes: Tensor) -> Tensor:
        """The detector's input (B, 3, H, W), 0 beside the pictures."""
        _, height, width, _ = images.shape
        above = torch.arange(height, device=images.device) < sizes[:, :1]
        left = torch.arange(width, device=images.device) < sizes[:, 1:]
        inside = (above[:, :, None] & left[:, None, :])[..., None]
        normal: Tensor = (images.float() - self.mean) * self.inverse_std * inside
        return normal.permute(0, 3, 1, 2)

    def _candidates(self, class_logits: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """The N most probable pairs: probability, cell (counted over the levels) and class, (B, N) each."""
        scores = points_nms(flat_cells(class_logits).sigmoid(), self.neighbours)  # (B, cells, C)
        probabilities, pairs = scores.flatten(1).topk(self.candidates)
        return probabilities, pairs // scores.shape[2], pairs % scores.shape[2]


def _pick(x: Tensor, index: Tensor) -> Tensor:
    """(B, M, ...) and (B, N) -> (B, N, ...): chosen entries of each image."""
    batch, n = x.shape[:2]
    first = torch.arange(batch, device=x.device)[:, None] * n
    return x.flatten(0, 1)[index + first]


def _of_cells(maps: Sequence[Tensor], cells: Tensor) -> Tensor:
    """What ``cells`` (B, N) hold in ``maps``, one (B, C, S, S) per level: (B, N, C)."""
    return _pick(flat_cells(maps), cells)


def _decoupled_masks(output: DecoupledOutput, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, N, h, w) soft masks of the cells in ``rows`` and ``columns`` (B, N), counted over the levels."""
    size = output.mask_size
    soft_x = torch.cat([resize(x.sigmoid(), size) for x in output.mask_x], dim=1)
    soft_y = torch.cat([resize(y.sigmoid(), size) for y in output.mask_y], dim=1)
    return _pick(soft_x, columns) * _pick(soft_y, rows)


def _solov2_masks(output: SoloV2Output, cells: Tensor) -> Tensor:
    """(B, N, h, w) soft masks of ``cells`` (B, N)."""
    logits = _of_cells(output.kernels, cells) @ output.mask_feature.flatten(2)
    masks: Tensor = logits.sigmoid().unflatten(2, output.mask_size)
    return masks


def _windowed_masks(output: WindowedOutput, cells: Tensor) -> Tensor:
    """(B, N, h, w) soft masks of ``cells`` (B, N)."""
    windows = _of_cells(output.windows, cells).flatten(0, 1)
    made = make_windows(windows, output.mask_size, stride=DETAIL_STRIDE)
    window = made.x[:, None, :] + made.y[:, :, None]
    logits = _of_cells(output.kernels, cells) @ output.mask_feature.flatten(2)
    masks: Tensor = (logits.unflatten(2, output.mask_size) + window.unflatten(0, cells.shape)).sigmoid()
    return masks


def _solo_masks(output: SoloOutput, cells: Tensor, levels: Tensor) -> Tensor:
    """(B, N, h, w) soft masks of ``cells`` (B, N), which lie on ``levels`` (B, N).

    One level after the other makes N masks, of which those of its own cells are kept: a fifth of the
    work is used, but nothing holds the S * S masks of a level (1600 on the finest).
    """
    masks, first = torch.zeros(()), 0
    for level, (x, weight, bias) in enumerate(
        zip(output.features, output.weights, output.biases, strict=True)
    ):
        mine = (cells - first).clamp(0, len(bias) - 1)
        logits = weight.flatten(1)[mine] @ x.flatten(2) + bias[mine][..., None]
        soft = resize(double(logits.unflatten(2, x.shape[-2:])).sigmoid(), output.mask_size)
        masks = torch.where((levels == level)[..., None, None], soft, masks)
        first += len(bias)
    return masks


def _rank(
    probabilities: Tensor, class_ids: Tensor, strides: Tensor, masks: Tensor, test: TestSpec
) -> tuple[Tensor, Tensor]:
    """Final scores (B, K), best first, and which of the N candidates each belongs to.

    What :mod:`streamseg.models.postprocess.detections` leaves out sorts last here, with a score of 0. All
    pixels are taken at once: in parts, their number would have to be fixed.
    """
    soft = masks.flatten(2)
    pixels = (soft > test.mask_threshold).float()
    scores = score_masks(probabilities, pixels.sum(dim=2), (pixels * soft).sum(dim=2), strides)
    scores = scores.masked_fill(probabilities <= test.score_threshold, -1.0)
    before, order = scores.topk(min(masks.shape[1], test.nms_pre))
    shared = pixels @ pixels.transpose(1, 2)  # (B, N, N)
    shared = _pick(_pick(shared, order).transpose(1, 2), order)
    scores = matrix_nms(
        shared,
        _pick(class_ids, order),
        before,
        kernel=test.kernel,
        sigma=test.sigma,
        overlap=test.overlap,
    )
    scores, again = scores.clamp(min=0).topk(min(scores.shape[1], test.max_instances))
    return scores, _pick(order, again)
