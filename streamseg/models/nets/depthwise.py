"""Depthwise convolutions whose gradients are quick on a CPU, and depthwise-separable layers."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from streamseg.models.nets.leaky import conv_leaky_relu


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel for itself, with a bias and ``kernel_size // 2`` pixels of padding.

    As ``nn.Conv2d``, but for the gradients on a CPU: oneDNN computes those of kernels larger than 3x3 and of
    strides above 1 in a slow loop. Here that of the kernel is a batch of matrix products and that of
    the input an ordinary depthwise convolution.
    """

    def __init__(self, channels: int, *, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__(
            channels, channels, kernel_size, stride=stride, padding=kernel_size // 2, groups=channels
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) -> (N, channels, ceil(H / stride), ceil(W / stride))."""
        assert self.bias is not None
        trains = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        slow = self.kernel_size[0] > 3 or self.stride[0] > 1
        if not trains or not slow or x.device.type != "cpu":
            return super().forward(x)
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
        y: Tensor = _Depthwise.apply(x, weight, self.stride[0])
        return y + self.bias.to(y.dtype)[:, None, None]


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution without bias; square kernels of odd size k, padding k // 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        with torch.autocast("cpu", enabled=False):
            return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        (grad,) = grads
        with torch.autocast("cpu", enabled=False):
            of_input = _input_gradient(grad, weight, x, ctx.stride) if ctx.needs_input_grad[0] else None
            of_weight = None
            if ctx.needs_input_grad[1]:
                of_weight = _kernel_gradient(grad, x, size=weight.shape[-1], stride=ctx.stride).to(
                    weight.dtype
                )
        return of_input, of_weight, None


def _input_gradient(grad: Tensor, weight: Tensor, x: Tensor, stride: int) -> Tensor:
    """The transposed convolution, as a convolution of the gradient with the kernel turned around."""
    if stride > 1:
        spread = torch.zeros_like(x)
        spread[:, :, ::stride, ::stride] = grad
        grad = spread
    return F.conv2d(grad, weight.flip(2, 3), padding=weight.shape[-1] // 2, groups=len(weight))


def _kernel_gradient(grad: Tensor, x: Tensor, *, size: int, stride: int) -> Tensor:
    """Gradient (C, 1, size, size) of a depthwise kernel.

    ``grad`` (N, C, h, w) is the gradient of the output, ``x`` (N, C, H, W) the input, which is padded with
    size // 2 zeros.

    For every channel and row offset i the products of all columns of ``grad`` with all columns of ``x`` are
    summed over images and rows, a matrix product. What belongs to the column offset j lies on a
    diagonal of the result. Most of it is computed in vain, but by the fastest code there is.
    """
    n, channels, height, width = grad.shape
    pad = size // 2
    wide = (width - 1) * stride + size
    tall = -(-((height - 1) * stride + size) // stride) * stride
    h, w = min(x.shape[2], tall - pad), min(x.shape[3], wide - pad)
    padded = x.new_zeros((channels, n, tall, wide))
    padded[:, :, pad : pad + h, pad : pad + w] = x[:, :, :h, :w].transpose(0, 1)
    # Rows of one phase lie together: an offset of the kernel is then a shift of all images at once.
    phases = padded.view(channels, n * tall // stride, stride, wide)
    below = grad.new_zeros((channels, n, tall // stride, width))
    below[:, :, :height] = grad.transpose(0, 1)
    left = below.flatten(1, 2).transpose(1, 2)
    rows = []
    for i in range(size):
        shift, phase = divmod(i, stride)
        count = left.shape[2] - shift
        products = torch.bmm(left[:, :, :count], phases[:, shift:, phase])  # (C, w, W)
        diagonals = products.as_strided(
            (channels, size, width), (width * wide, 1, wide + stride), products.storage_offset()
        )
        rows.append(diagonals.sum(dim=2, dtype=torch.float32))
    return torch.stack(rows, dim=1)[:, None]


class SeparableLeakyReLU(nn.Module):
    """Depthwise k x k, then pointwise; leaky ReLU after both, or with ``act`` False after neither."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel_size: int = 5, stride: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv2d(inputs, kernel_size=kernel_size, stride=stride)
        self.pointwise = nn.Conv2d(inputs, outputs, kernel_size=1)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, ceil(H / stride), ceil(W / stride))."""
        if not self.act:
            y: Tensor = self.pointwise(self.depthwise(x))
            return y
        return conv_leaky_relu(self.pointwise, conv_leaky_relu(self.depthwise, x))


def freeze_depthwise(network: nn.Module) -> None:
    """Stop training of the kernels, not the biases, of all depthwise convolutions."""
    for module in network.modules():
        if isinstance(module, DepthwiseConv2d):
            module.weight.requires_grad_(False)
