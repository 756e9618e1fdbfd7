"""Head outputs that are a known load for the post-processing.

Random weights find nothing: every class probability is near 0.01 and the masks are empty or cover
everything. So the network is run as it is, for its time, and what it returns is replaced by tensors of
the same shapes, type and memory order that hold a wanted number of candidates:

* 30, 30, 20, 10 and 10 % of them on the five levels, in cells and classes drawn at random (never in
  neighbouring cells, so that points NMS keeps all), with probabilities from 0.5 to 0.95;
* each with a mask that is one soft blob around its cell, of a size drawn from the range that its level
  is trained on (16 pixels at least) and of an aspect ratio between 1:2 and 2:1.

The published test settings then keep 100 instances, the most they allow. The same seed gives the same
tensors.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from streamseg.inference.runtimes import Network
from streamseg.models.nets.decoupled import DecoupledOutput
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.head import HeadOutput
from streamseg.models.nets.solo import SoloOutput
from streamseg.models.nets.solov2 import SoloV2Output
from streamseg.models.spec import LevelSpec, ModelSpec

SPREAD = (0.3, 0.3, 0.2, 0.1, 0.1)
"""Share of the candidates on each level."""
SMALLEST = 16.0
"""Pixels: what is smaller is dropped as noise."""


def head_output(
    spec: ModelSpec,
    canvas: tuple[int, int],
    *,
    candidates: int,
    batch: int = 1,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> HeadOutput:
    """What the model's head returns for ``batch`` equal pictures with so many candidates each.

    On CUDA the tensors are complete when this returns: any stream may read them.
    """
    device = torch.device(device)
    output = _head_output(
        spec, canvas, candidates=candidates, batch=batch, device=device, dtype=dtype, seed=seed
    )
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return output


class Loaded:
    """A network that takes its time, and then returns a known load."""

    def __init__(self, network: Network, output: HeadOutput) -> None:
        self.dtype = network.dtype
        self._network, self._output = network, output

    def __call__(self, images: Tensor) -> HeadOutput:
        self._network(images)
        return self._output


def _head_output(
    spec: ModelSpec,
    canvas: tuple[int, int],
    *,
    candidates: int,
    batch: int,
    device: torch.device,
    dtype: torch.dtype,
    seed: int,
) -> HeadOutput:
    shapes = _shapes(spec, canvas)
    rng = torch.Generator().manual_seed(seed)
    levels = spec.head.levels

    def place(x: Tensor) -> Tensor:
        """(1, C, H, W) or (H, W, C): the batch in the memory order of a network's output."""
        x = x.expand(batch, *x.shape[1:])
        return x.to(device, dtype, copy=True).contiguous(memory_format=torch.channels_last)

    logits = [place(x) for x in _class_logits(shapes.class_logits, candidates, rng)]
    sizes = [_sizes(level, canvas, rng) for level in levels]
    if isinstance(shapes, DecoupledOutput):
        shape = [x.shape[-2:] for x in shapes.mask_x]
        return DecoupledOutput(
            logits,
            mask_x=[
                place(_bars(h, w, canvas, s[0, :, 0], axis=1)) for (h, w), s in zip(shape, sizes, strict=True)
            ],
            mask_y=[
                place(_bars(h, w, canvas, s[:, 0, 1], axis=0)) for (h, w), s in zip(shape, sizes, strict=True)
            ],
        )
    if isinstance(shapes, SoloOutput):
        basis = _Bumps(shapes.features[0].shape[1], canvas)
        return SoloOutput(
            logits,
            features=[place(basis.maps(*x.shape[-2:])) for x in shapes.features],
            weights=[basis.kernels(s).flatten(0, 1)[:, :, None, None].to(device, dtype) for s in sizes],
            biases=[torch.zeros(level.grid**2, device=device, dtype=dtype) for level in levels],
        )
    assert isinstance(shapes, SoloV2Output)
    basis = _Bumps(shapes.mask_feature.shape[1], canvas)
    return SoloV2Output(
        logits,
        kernels=[place(basis.kernels(s).permute(2, 0, 1)[None]) for s in sizes],
        mask_feature=place(basis.maps(*shapes.mask_feature.shape[-2:])),
    )


def _shapes(spec: ModelSpec, canvas: tuple[int, int]) -> HeadOutput:
    """The head's output without memory behind it."""
    with torch.device("meta"), torch.no_grad():
        output: HeadOutput = Detector(spec).eval()(torch.empty(1, 3, *canvas))
    return output


def _class_logits(shapes: Sequence[Tensor], candidates: int, rng: torch.Generator) -> list[Tensor]:
    """(1, C, S, S) per level: improbable everywhere but for the candidates."""
    counts = [round(candidates * share) for share in SPREAD]
    counts[0] += candidates - sum(counts)
    logits = []
    for shape, count in zip((x.shape for x in shapes), counts, strict=True):
        x = torch.full(shape, -6.0)
        half = shape[-1] // 2  # every other row and column
        chosen = torch.randperm(half * half * shape[1], generator=rng)[:count]
        cell, class_id = chosen // shape[1], chosen % shape[1]
        values = torch.rand(count, generator=rng) * 0.45 + 0.5
        x[0, class_id, 2 * (cell // half) + 1, 2 * (cell % half) + 1] = values.logit()
        logits.append(x)
    return logits


def _sizes(level: LevelSpec, canvas: tuple[int, int], rng: torch.Generator) -> Tensor:
    """(S, S, 2): width and height of each cell's object in pixels of the canvas."""
    low = math.log(max(level.scale[0], SMALLEST))
    high = math.log(min(level.scale[1], 0.9 * min(canvas)))
    length = low + (high - low) * torch.rand(level.grid, level.grid, generator=rng)
    skew = (torch.rand(level.grid, level.grid, generator=rng) - 0.5) * math.log(2)
    return torch.stack((length + skew, length - skew), dim=-1).exp()


def _centres(count: int, length: int) -> Tensor:
    """Centres of ``count`` equal parts of ``length``."""
    return (torch.arange(count) + 0.5) * (length / count)


def _bars(height: int, width: int, canvas: tuple[int, int], extents: Tensor, *, axis: int) -> Tensor:
    """(1, S, height, width): channel k is positive in a bar of ``extents[k]`` pixels around line k."""
    pixels = _centres((height, width)[axis], canvas[axis])
    distance = (pixels - _centres(len(extents), canvas[axis])[:, None]) / (extents[:, None] / 2)
    bars = (4 * (1 - distance.square())).clamp(min=-8)
    return (bars[:, None, :] if axis else bars[:, :, None]).expand(-1, height, width)[None]


class _Bumps:
    """Feature channels that cells' kernels combine to blobs: bell curves all over the canvas, and a 1."""

    def __init__(self, channels: int, canvas: tuple[int, int]) -> None:
        self._canvas = canvas
        count = channels - 1
        columns = math.ceil(math.sqrt(count * canvas[1] / canvas[0]))
        rows = math.ceil(count / columns)
        self._spacing = max(canvas[0] / rows, canvas[1] / columns)
        y, x = torch.meshgrid(_centres(rows, canvas[0]), _centres(columns, canvas[1]), indexing="ij")
        self._x, self._y = x.flatten()[:count], y.flatten()[:count]

    def maps(self, height: int, width: int) -> Tensor:
        """(1, channels, height, width)."""
        sigma = 0.75 * self._spacing
        across = _bell(_centres(width, self._canvas[1]) - self._x[:, None], sigma)
        down = _bell(_centres(height, self._canvas[0]) - self._y[:, None], sigma)
        bumps = down[:, :, None] * across[:, None, :]
        return torch.cat((bumps, torch.ones(1, height, width)))[None]

    def kernels(self, sizes: Tensor) -> Tensor:
        """(S, S, 2) widths and heights -> (S, S, channels): each cell's blob has about that size."""
        grid = len(sizes)
        width, height = sizes.unbind(-1)
        own_x, own_y = width / 2.4 + self._spacing / 2, height / 2.4 + self._spacing / 2
        columns, rows = _centres(grid, self._canvas[1]), _centres(grid, self._canvas[0])
        share = _bell(self._x - columns[None, :, None], own_x[..., None])
        share = share * _bell(self._y - rows[:, None, None], own_y[..., None])
        peak = (share @ self.maps(48, 48)[0, :-1].flatten(1)).amax(dim=-1)
        # The sum is about a bell curve itself; the ellipse on which it falls to peak / drop is the edge.
        wide = (0.75 * self._spacing) ** 2
        spread = ((own_x.square() + wide) * (own_y.square() + wide)).sqrt()
        drop = (width * height / 4 / (2 * spread)).exp()
        gain = (4 / (drop - 1)).clamp(max=100)  # the logit at the centre is 4
        return torch.cat((share * (gain * drop / peak)[..., None], -gain[..., None]), dim=-1)


def _bell(distance: Tensor, sigma: Tensor | float) -> Tensor:
    return (-(distance.square()) / (2 * sigma**2)).exp()
