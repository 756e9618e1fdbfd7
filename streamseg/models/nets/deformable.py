"""Deformable convolution, versions 1 (Dai et al. 2017) and 2 (Zhu et al. 2019)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DeformableConv2d(nn.Module):
    """A convolution that samples its input at learned offsets.

    A plain convolution ``conv_offset`` predicts for tap k of the kernel (row-major) the offset dy in
    channel 2k and dx in channel 2k + 1; version 2 also the logit of a weight for each tap, in the
    channels after those. It starts as zero: an ordinary convolution (version 2: of half strength).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        version: Literal[1, 2],
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, kernel_size // 2
        self.taps = kernel_size**2
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel_size, kernel_size))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")
        self.bias: nn.Parameter | None
        self.register_parameter("bias", None)  # one comes only with the batch norm that is folded into it
        self.conv_offset = nn.Conv2d(
            inputs, (version + 1) * self.taps, kernel_size, stride=stride, padding=self.padding
        )
        nn.init.zeros_(self.conv_offset.weight)
        assert self.conv_offset.bias is not None
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, ~H/stride, ~W/stride)."""
        predicted = self.conv_offset(x).float()
        offsets, modulation = predicted[:, : 2 * self.taps], predicted[:, 2 * self.taps :]
        # torchvision's operator knows no bf16 on a CPU; in fp32 the sampling stays exact everywhere.
        y: Tensor = deform_conv2d(
            x.float(),
            offsets,
            self.weight.float(),
            None if self.bias is None else self.bias.float(),
            stride=self.stride,
            padding=self.padding,
            mask=modulation.sigmoid() if modulation.shape[1] else None,
        )
        return y.to(x.dtype)
