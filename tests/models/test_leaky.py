"""A convolution with its leaky ReLU in one pass is what both are one after the other."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from streamseg.models.nets.depthwise import DepthwiseConv2d
from streamseg.models.nets.leaky import SLOPE, _in_one_pass, conv_leaky_relu

CONVS = {
    "pointwise": lambda: nn.Conv2d(24, 40, kernel_size=1),
    "halving depthwise": lambda: DepthwiseConv2d(24, kernel_size=5, stride=2),
    "dense, no bias": lambda: nn.Conv2d(24, 16, kernel_size=3, padding=1, bias=False),
}


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("conv", CONVS)
def test_one_pass_equals_two(conv: str, order: torch.memory_format) -> None:
    torch.manual_seed(0)
    layer = CONVS[conv]().to(memory_format=order)
    wide = torch.randn(2, 48, 33, 41).contiguous(memory_format=order)
    for x in (wide[:, :24].contiguous(memory_format=order), wide.chunk(2, dim=1)[1]):
        with torch.inference_mode():
            assert _in_one_pass(layer, x)
            expected = F.leaky_relu(layer(x), SLOPE)
            found = conv_leaky_relu(layer, x)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        if order is torch.channels_last:
            assert torch.equal(found, expected)
            assert found.is_contiguous(memory_format=order)
        with torch.inference_mode():
            rounded = conv_leaky_relu(layer.to(torch.bfloat16), x.to(torch.bfloat16)).float()
        torch.testing.assert_close(rounded, expected, rtol=0.02, atol=0.05)
        layer.float()


def test_training_has_gradients_of_both() -> None:
    layer = nn.Conv2d(3, 4, kernel_size=1)
    x = torch.randn(1, 3, 5, 5, requires_grad=True)
    conv_leaky_relu(layer, x).square().sum().backward()
    ours, layer.weight.grad = layer.weight.grad, None
    F.leaky_relu(layer(x), SLOPE).square().sum().backward()
    torch.testing.assert_close(ours, layer.weight.grad)


def test_another_type_than_the_weights_is_left_to_autocast() -> None:
    layer = nn.Conv2d(3, 4, kernel_size=1)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv_leaky_relu(layer, torch.randn(1, 3, 5, 5)).dtype == torch.bfloat16
