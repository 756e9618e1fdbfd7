"""The quick gradients of depthwise convolutions are the gradients."""

import pytest
import torch
from torch.nn import functional as F

from streamseg.models.nets.depthwise import DepthwiseConv2d, freeze_depthwise


def gradients(
    conv: DepthwiseConv2d, x: torch.Tensor, *, quick: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x = x.clone().requires_grad_()
    conv.zero_grad()
    if quick:
        y = conv(x)
    else:
        size = conv.kernel_size[0]
        y = F.conv2d(x, conv.weight, conv.bias, conv.stride, padding=size // 2, groups=conv.groups)
    generator = torch.Generator().manual_seed(1)
    (y * torch.randn(y.shape, generator=generator, dtype=y.dtype)).sum().backward()
    assert x.grad is not None
    return x.grad, {name: p.grad for name, p in conv.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("size", [(12, 16), (11, 15), (1, 2)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_equal_those_of_torch(
    kernel_size: int, stride: int, size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    conv = DepthwiseConv2d(6, kernel_size=kernel_size, stride=stride)
    x = torch.randn(3, 6, *size).to(memory_format=memory_format)
    (of_input, ours), (expected, theirs) = (gradients(conv, x, quick=quick) for quick in (True, False))
    torch.testing.assert_close(of_input, expected)
    assert ours.keys() == theirs.keys() == {"weight", "bias"}
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name])


def test_in_bf16_they_are_near() -> None:
    torch.manual_seed(0)
    conv, x = DepthwiseConv2d(8, kernel_size=5), torch.randn(2, 8, 24, 20)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        of_input, ours = gradients(conv, x, quick=True)
    expected, theirs = gradients(conv, x, quick=False)
    assert F.cosine_similarity(of_input.flatten(), expected.flatten(), dim=0) > 0.999
    for name, gradient in ours.items():
        assert gradient.dtype == torch.float32
        assert F.cosine_similarity(gradient.flatten(), theirs[name].flatten(), dim=0) > 0.999


def test_frozen_kernels_pass_the_gradient_on() -> None:
    torch.manual_seed(0)
    conv, x = DepthwiseConv2d(4), torch.randn(1, 4, 8, 8)
    before, _ = gradients(conv, x, quick=True)
    freeze_depthwise(conv)
    of_input, left = gradients(conv, x, quick=True)
    assert left.keys() == {"bias"}
    torch.testing.assert_close(of_input, before)
