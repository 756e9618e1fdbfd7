"""Feature pyramid (Lin et al. 2017) and its re-mapping to the levels of a SOLO head."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from streamseg.models.nets.layers import resize
from streamseg.models.spec import LevelSpec


class FPN(nn.Module):
    """C_k..C5 -> P_k..P6, all with ``channels`` channels; P6 is every second pixel of P5."""

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(nn.Conv2d(i, channels, kernel_size=1) for i in inputs)
        self.output_convs = nn.ModuleList(
            nn.Conv2d(channels, channels, kernel_size=3, padding=1) for _ in inputs
        )
        for conv in (*self.lateral_convs, *self.output_convs):
            nn.init.xavier_uniform_(conv.weight)
            nn.init.zeros_(conv.bias)

    @property
    def entries(self) -> nn.ModuleList:
        """The convolutions that read the maps."""
        return self.lateral_convs

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Finest map first, in and out."""
        merged = [conv(x) for conv, x in zip(self.lateral_convs, maps, strict=True)]
        for fine in range(len(merged) - 2, -1, -1):
            size = merged[fine].shape[-2:]
            merged[fine] = merged[fine] + F.interpolate(merged[fine + 1], size=size, mode="nearest")
        pyramid = [conv(x) for conv, x in zip(self.output_convs, merged, strict=True)]
        return [*pyramid, F.max_pool2d(pyramid[-1], kernel_size=1, stride=2)]


def remap_levels(pyramid: Sequence[Tensor], levels: Sequence[LevelSpec], *, first: int) -> list[Tensor]:
    """Give each head level its map: P_k, resized bilinearly if the level asks for another stride.

    ``pyramid`` holds P_first.. as :class:`FPN` returns them. With the published levels P2 is halved
    and P6 enlarged to P5's size (SOLO paper, "Network Architecture"). Levels that read the same map get the
    very same tensor, so that a head need not compute a tower twice.
    """
    by_stride = {2 ** (first + i): x for i, x in enumerate(pyramid)}
    resized: dict[tuple[int, int], Tensor] = {}
    for level in levels:
        key = (2**level.pyramid, level.stride)
        if key not in resized:
            resized[key] = resize(by_stride[key[0]], by_stride[level.stride].shape[-2:])
    return [resized[2**level.pyramid, level.stride] for level in levels]
