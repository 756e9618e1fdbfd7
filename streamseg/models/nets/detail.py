"""A mask feature of stride 4 that takes its detail from C2, and the convolution it is made of."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from streamseg.models.nets.layers import resize
from streamseg.models.nets.leaky import SLOPE, conv_leaky_relu
from streamseg.models.spec import MaskFeatureSpec


class ConvLeakyReLU(nn.Module):
    """Convolution with a bias, then leaky ReLU: no norm, as everywhere in NanoDet-Plus."""

    def __init__(self, inputs: int, outputs: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel_size, padding=kernel_size // 2)
        nn.init.kaiming_normal_(self.conv.weight, a=SLOPE)
        assert self.conv.bias is not None
        nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        return conv_leaky_relu(self.conv, x)


class DetailMaskFeature(nn.Module):
    """Merge P_first..P5 at P_first's stride, and join that with C2 at stride 4."""

    def __init__(self, spec: MaskFeatureSpec, *, inputs: int, maps: int, detail: int) -> None:
        super().__init__()
        assert spec.detail is not None
        channels = spec.channels
        self.merge = nn.ModuleList(nn.Conv2d(inputs, channels, kernel_size=1) for _ in range(maps))
        self.coarse = nn.Sequential(ConvLeakyReLU(channels, channels), ConvLeakyReLU(channels, channels))
        self.reduce = nn.Conv2d(channels, spec.detail, kernel_size=1)
        self.lift = nn.Conv2d(detail, spec.detail, kernel_size=1)
        self.fine = ConvLeakyReLU(spec.detail, spec.detail)
        self.output: nn.Module = nn.Conv2d(spec.detail, spec.outputs, kernel_size=1)

    def forward(self, pyramid: Sequence[Tensor], detail: Tensor) -> Tensor:
        """P_first..P5 and C2 -> (B, E, h, w), h x w the size of C2."""
        size = pyramid[0].shape[-2:]
        parts = [resize(conv(x), size) for conv, x in zip(self.merge, pyramid, strict=True)]
        coarse = self.reduce(self.coarse(F.leaky_relu_(sum(parts[1:], start=parts[0]), SLOPE)))
        joined = resize(coarse, detail.shape[-2:]) + self.lift(detail)
        feature: Tensor = self.output(self.fine(F.leaky_relu_(joined, SLOPE)))
        return feature
