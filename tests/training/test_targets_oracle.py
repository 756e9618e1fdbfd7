"""Targets, losses and gradients equal the reference."""

import pytest
import torch

from streamseg.models.decoupled import DecoupledHead
from streamseg.models.fpn import remap_levels
from streamseg.training.losses import decoupled_loss, dice_loss, focal_loss
from streamseg.training.targets import Annotations, LevelTargets, build_targets
from tests.models.tiny import LEVELS, head_spec
from tests.oracle import Oracle, head_state

NAMES = ["mmdet_decoupled", "mmdet_decoupled_light"]


def annotations(oracle: Oracle, image: int) -> Annotations:
    return Annotations(
        class_ids=oracle.tensor(f"gt{image}/labels"),
        boxes=oracle.tensor(f"gt{image}/boxes").float(),
        masks=oracle.tensor(f"gt{image}/masks").to(torch.uint8),
    )


def no_annotations() -> Annotations:
    return Annotations(
        torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), torch.zeros(0, 128, 160, dtype=torch.uint8)
    )


def targets_of(*truths: Annotations) -> list[list[LevelTargets]]:
    return [build_targets(truth, LEVELS, classes=3) for truth in truths]


@pytest.fixture(params=NAMES)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return Oracle(request.param, common="common_tiny")


@pytest.fixture
def head(oracle: Oracle) -> DecoupledHead:
    state = head_state(oracle.state_dict())
    head = DecoupledHead(head_spec(light="mask_tower.0.conv.weight" in state), inputs=16, classes=3)
    head.load_state_dict(state)
    return head


@pytest.mark.parametrize("image", [0, 1])
def test_oracle_targets(oracle: Oracle, image: int) -> None:
    (levels,) = targets_of(annotations(oracle, image))
    for level, target in enumerate(levels):
        prefix = f"targets{image}"
        assert torch.equal(target.class_ids, oracle.tensor(f"{prefix}/labels/{level}"))
        cells = torch.stack((target.rows, target.columns), dim=1)
        assert torch.equal(cells, oracle.tensor(f"{prefix}/xy_pos_yx/{level}"))
        assert torch.equal(target.masks, oracle.tensor(f"{prefix}/pos_mask_targets/{level}"))


def test_oracle_losses_and_gradients(oracle: Oracle, head: DecoupledHead) -> None:
    output = head(remap_levels(oracle.tensors("feats"), LEVELS, first=2))
    losses = decoupled_loss(output, targets_of(annotations(oracle, 0), annotations(oracle, 1)))
    torch.testing.assert_close(losses.mask, oracle.tensor("loss/loss_mask"), rtol=1e-5, atol=0)
    torch.testing.assert_close(losses.classes, oracle.tensor("loss/loss_cls"), rtol=1e-5, atol=0)
    losses.total.backward()
    expected = head_state({key.removeprefix("grad/"): oracle.tensor(key) for key in oracle.keys("grad/")})
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5)


def test_oracle_loss_without_objects(oracle: Oracle, head: DecoupledHead) -> None:
    output = head(remap_levels(oracle.tensors("feats"), LEVELS, first=2))
    losses = decoupled_loss(output, targets_of(no_annotations(), no_annotations()))
    assert losses.mask.item() == 0
    torch.testing.assert_close(losses.classes, oracle.tensor("loss_empty_gt/loss_cls"), rtol=1e-5, atol=0)
    losses.total.backward()
    assert all(p.grad is not None for p in head.parameters())


def test_unknown_classes_cost_nothing(oracle: Oracle, head: DecoupledHead) -> None:
    with torch.no_grad():
        output = head(remap_levels(oracle.tensors("feats"), LEVELS, first=2))
    nothing = [torch.zeros_like(logits) for logits in output.class_logits]
    losses = decoupled_loss(output, targets_of(no_annotations(), no_annotations()), class_weights=nothing)
    assert losses.classes.item() == 0


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
