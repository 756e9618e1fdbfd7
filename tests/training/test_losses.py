"""Targets, losses and back-propagation take any ground truth; the losses mean what they say."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamseg.models.nets.detector import build_head
from streamseg.models.spec import Architecture, HeadSpec, MaskFeatureSpec
from streamseg.training.losses import MASK_LOSSES, MaskLossName, dice_loss, focal_loss, solo_loss
from streamseg.training.targets import Annotations, build_targets
from tests.support.tiny import LEVELS

HEIGHT, WIDTH, CLASSES = 64, 96, 3
ARCHITECTURES: tuple[Architecture, ...] = ("solo", "decoupled_solo", "solov2")


def head_spec(architecture: Architecture) -> HeadSpec:
    feature = MaskFeatureSpec(channels=8, outputs=8) if architecture == "solov2" else None
    return HeadSpec(channels=8, convs=1, class_convs=1, groups=4, mask_feature=feature, levels=LEVELS)


def pyramid(images: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2)]
    return [torch.randn(images, 8, h, w, generator=generator) for h, w in sizes]


@st.composite
def annotations(draw: st.DrawFn) -> Annotations:
    """0 to 12 objects, rarely 300: rectangles of any size, single pixels, empty masks, odd boxes."""
    count = draw(st.one_of(st.integers(0, 12), st.just(300)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    masks = torch.zeros(count, HEIGHT, WIDTH, dtype=torch.uint8)
    boxes = torch.zeros(count, 4)
    for k in range(count):
        y, x = (int(torch.randint(0, n, (), generator=generator)) for n in (HEIGHT, WIDTH))
        h, w = (
            1 + int(torch.rand((), generator=generator) ** 3 * (n - 1 - start))
            for n, start in ((HEIGHT, y), (WIDTH, x))
        )
        shape = int(torch.randint(0, 4, (), generator=generator))
        if shape < 3:  # the fourth kind stays empty
            masks[k, y : y + h, x : x + w] = 1
        boxes[k] = torch.tensor([x, y, x + w, y + h])
        if shape == 2:  # an object far larger than the last scale range, cut off by the image
            boxes[k] = torch.tensor([x - 5000.0, y - 5000.0, x + 5000.0, y + 5000.0])
    class_ids = torch.randint(0, CLASSES, (count,), generator=generator)
    return Annotations(class_ids, boxes, masks)


@pytest.mark.parametrize("mask_loss", MASK_LOSSES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@given(truths=st.lists(annotations(), min_size=1, max_size=3))
@settings(max_examples=15, deadline=None)
def test_any_ground_truth_can_be_learned_from(
    architecture: Architecture, mask_loss: MaskLossName, truths: list[Annotations]
) -> None:
    torch.manual_seed(0)
    head = build_head(architecture, head_spec(architecture), inputs=8, classes=CLASSES)
    pairs = architecture == "solov2"
    strides = (4,) * 5 if pairs else (4, 4, 8, 16, 16)
    targets = [
        build_targets(truth, LEVELS, classes=CLASSES, mask_strides=strides, pairs=pairs) for truth in truths
    ]
    for image in targets:
        for level, spec in zip(image, LEVELS, strict=True):
            assert level.masks.shape[0] == len(level.rows) == len(level.columns)
            assert ((level.rows >= 0) & (level.rows < spec.grid)).all()
            assert int(level.cells) <= len(level.rows)
    losses = solo_loss(head(pyramid(len(truths))), targets, mask_loss=mask_loss)
    total = losses.mask + losses.classes
    assert torch.isfinite(total)
    total.backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("name", MASK_LOSSES)
def test_a_mask_loss_falls_towards_the_right_mask(name: MaskLossName) -> None:
    function, _ = MASK_LOSSES[name]
    target = torch.zeros(1, 8, 8)
    target[0, 2:6, 2:6] = 1
    losses = [function((target * p + (1 - target) * (1 - p)), target).item() for p in (0.1, 0.5, 0.9, 1.0)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("name", MASK_LOSSES)
def test_a_mask_loss_is_finite_when_all_is_wrong(name: MaskLossName) -> None:
    logits = torch.full((1, 4, 4), 200.0, requires_grad=True)
    loss = MASK_LOSSES[name][0](logits.sigmoid(), torch.zeros(1, 4, 4)).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_mask_weight_can_be_chosen() -> None:
    torch.manual_seed(0)
    head = build_head("solo", head_spec("solo"), inputs=8, classes=CLASSES)
    mask = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.uint8)
    mask[0, 20:40, 30:60] = 1
    truth = Annotations(torch.tensor([1]), torch.tensor([[30.0, 20.0, 60.0, 40.0]]), mask)
    targets = [build_targets(truth, LEVELS, classes=CLASSES, mask_strides=(4, 4, 8, 16, 16), pairs=False)]
    output = head(pyramid(1))
    paper = solo_loss(output, targets).mask
    assert solo_loss(output, targets, mask_weight=6.0).mask.item() == pytest.approx(2 * paper.item())


def test_dice_loss_is_0_for_a_perfect_mask_and_1_for_a_miss() -> None:
    target = torch.zeros(1, 8, 8)
    target[0, 2:6, 2:6] = 1
    assert dice_loss(target, target).item() == pytest.approx(0, abs=1e-4)
    assert dice_loss(1 - target, target).item() == pytest.approx(1, abs=1e-4)


def test_focal_loss_is_finite_for_huge_logits() -> None:
    logits = torch.tensor([-100.0, 100.0], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([1.0, 0.0])).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()
