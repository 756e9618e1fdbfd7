"""A network that only infers has no batch norms, and gives the same."""

import pytest
import torch
from torch import nn

from streamseg.models.nets.detector import Detector
from streamseg.models.nets.flat import batch_tensors
from streamseg.models.nets.folded import folded_copy
from streamseg.models.nets.folding import fold_batch_norms
from streamseg.models.nets.layers import coordinates
from streamseg.models.nets.shufflenet import ShuffleNetV2
from streamseg.models.nets.unshuffled import remove_shuffles
from streamseg.models.spec import BackboneName, DeformableSpec
from tests.support.lively import VARIANTS, make_detector
from tests.support.tiny import tiny_spec

BACKBONES: dict[str, dict[str, object]] = {
    "basic blocks": {"backbone": "resnet18"},
    "bottlenecks": {"backbone": "resnet50"},
    "deformable": {"backbone": "resnet50", "deformable": DeformableSpec(version=2)},
    "deformable, version 1": {"backbone": "resnet50", "deformable": DeformableSpec(version=1)},
}


def lively(backbone: BackboneName, deformable: DeformableSpec | None = None) -> Detector:
    """With statistics that a batch norm would have after training."""
    torch.manual_seed(0)
    detector = Detector(tiny_spec("solov2", backbone=backbone, deformable=deformable)).eval()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.25)
            nn.init.uniform_(module.weight, 0.5, 0.9)
            nn.init.normal_(module.bias, std=0.1)
    return detector


@pytest.mark.parametrize("options", BACKBONES.values(), ids=BACKBONES.keys())
@torch.no_grad()
def test_folded_batch_norms_change_nothing(options: dict[str, object]) -> None:
    detector = lively(**options)  # type: ignore[arg-type]
    images = torch.randn(2, 3, 128, 160)
    expected = detector(images)
    maps = detector.backbone(images)
    fold_batch_norms(detector)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in detector.modules())
    for ours, theirs in zip(detector.backbone(images), maps, strict=True):
        assert theirs.std() > 1e-3
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * max(1.0, float(theirs.abs().max())))
    for ours, theirs in zip(batch_tensors(detector(images)), batch_tensors(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_coordinates_are_made_once_and_can_be_trained_with() -> None:
    with torch.inference_mode():
        first = coordinates(torch.zeros(2, 5, 6, 7))
        assert coordinates(torch.ones(2, 3, 6, 7)).data_ptr() == first.data_ptr()
    weight = torch.ones(1, requires_grad=True)
    (coordinates(torch.zeros(2, 5, 6, 7)) * weight).square().sum().backward()
    assert weight.grad is not None
    assert coordinates(torch.zeros(2, 5, 6, 7).half()).dtype == torch.half
    last = torch.zeros(2, 5, 6, 7).contiguous(memory_format=torch.channels_last)
    joined = torch.cat((last, coordinates(last)), dim=1)
    assert joined.is_contiguous(memory_format=torch.channels_last), "no map is copied to the other order"


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_maps_without_shuffles_have_the_same_channels(order: torch.memory_format) -> None:
    torch.manual_seed(0)
    backbone = ShuffleNetV2().eval()
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):  # as if trained: values neither vanish nor explode
            nn.init.kaiming_normal_(module.weight, nonlinearity="leaky_relu")
            nn.init.normal_(module.bias, std=0.1)
    images = torch.randn(2, 3, 64, 96).contiguous(memory_format=order)
    expected = backbone(images)
    orders = remove_shuffles(backbone)
    for ours, theirs, channels in zip(backbone(images), expected, orders, strict=True):
        assert sorted(channels) == list(range(theirs.shape[1]))
        assert theirs.std(dim=(0, 2, 3)).min() > 1e-3
        torch.testing.assert_close(ours, theirs[:, channels], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["solo, separable", "solov2, windows"])
@torch.no_grad()
def test_a_network_that_only_infers_finds_the_same(variant: str) -> None:
    detector = make_detector(**VARIANTS[variant])
    for parameter in detector.head.parameters():
        if parameter.ndim == 1:
            parameter.normal_(std=0.3)
    images = torch.randn(2, 3, 64, 96)
    expected, folded = detector(images), folded_copy(detector)(images)
    for ours, theirs in zip(folded.class_logits, expected.class_logits, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for level, logits in enumerate(expected.class_logits):
        rows, columns = torch.ones(logits.shape[-2:]).nonzero(as_tuple=True)
        for image in range(len(images)):
            ours, theirs = (output.soft_masks(level, image, rows, columns) for output in (folded, expected))
            assert theirs.std(dim=(1, 2)).max() > 1e-3
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(batch_tensors(detector(images)), batch_tensors(expected), strict=True):
        assert torch.equal(ours, theirs), "the other one is as it was"
