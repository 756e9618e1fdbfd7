"""Single functions equal the reference."""

import pytest
import torch

from streamseg.models.input_size import geometry
from streamseg.models.nets.deformable import DeformableConv2d
from streamseg.models.nets.fpn import remap_levels
from streamseg.models.nets.layers import coordinates
from streamseg.models.postprocess.candidates import flat_cells, make_grids, points_nms
from streamseg.models.postprocess.maskness import measure
from streamseg.models.postprocess.matrix_nms import matrix_nms
from streamseg.models.spec import InputSpec
from streamseg.training.losses import dice_loss, focal_loss
from streamseg.training.targets import centres_of_mass
from tests.support.oracle import Oracle
from tests.support.tiny import LEVELS


@pytest.fixture(scope="module")
def primitives() -> Oracle:
    return Oracle("primitives")


@pytest.mark.parametrize("case", range(5))
@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("sigma", [2.0, 0.5])
def test_oracle_matrix_nms(primitives: Oracle, case: int, kernel: str, sigma: float) -> None:
    prefix = f"nms/{case}"
    scores = primitives.tensor(f"{prefix}/scores")
    order = scores.argsort(descending=True, stable=True)
    ours = matrix_nms(
        measure(primitives.tensor(f"{prefix}/masks").float()[order][None], 0.5)[0][0],
        primitives.tensor(f"{prefix}/labels")[order],
        scores[order],
        kernel=kernel,
        sigma=sigma,
        overlap="class",
    )
    expected = primitives.tensor(f"{prefix}/{kernel}_{sigma}/wx_decayed_in_score_order")
    assert torch.isfinite(ours).all()
    # The reference divides 0 by 0 where one mask is an exact copy of another.
    defined = torch.isfinite(expected)
    torch.testing.assert_close(ours[defined], expected[defined], atol=1e-6, rtol=1e-5)


def test_oracle_points_nms(primitives: Oracle) -> None:
    scores, expected = primitives.tensor("points_nms/in"), primitives.tensor("points_nms/out")
    # Grids are square; what is added on the right and below is no cell's upper or left neighbour.
    height, width = scores.shape[2:]
    size = max(height, width)
    square = torch.nn.functional.pad(scores, (0, size - width, 0, size - height))
    kept = points_nms(flat_cells([square]), make_grids([size]).neighbours)
    assert torch.equal(kept.mT.unflatten(2, (size, size))[..., :height, :width], expected)


def test_oracle_dice_loss(primitives: Oracle) -> None:
    logits = primitives.tensor("dice/logits").requires_grad_()
    loss = 3 * dice_loss(logits.sigmoid(), primitives.tensor("dice/target"))
    torch.testing.assert_close(loss, primitives.tensor("dice/activate1_naive0/loss"), rtol=1e-5, atol=1e-6)
    loss.sum().backward()
    torch.testing.assert_close(
        logits.grad, primitives.tensor("dice/activate1_naive0/grad_logits"), rtol=1e-3, atol=1e-6
    )


def test_oracle_focal_loss(primitives: Oracle) -> None:
    logits = primitives.tensor("focal/logits").requires_grad_()
    labels = primitives.tensor("focal/labels_bg_is_3").long()
    wanted = torch.nn.functional.one_hot(labels, 4)[:, :3].float()
    loss = focal_loss(logits, wanted)
    torch.testing.assert_close(loss, primitives.tensor("focal/elementwise"), rtol=1e-4, atol=1e-6)
    (loss.sum() / 8).backward()
    torch.testing.assert_close(
        logits.grad, primitives.tensor("focal/grad_avg_factor_8"), rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 7), (16, 20)])
def test_oracle_coordinates(primitives: Oracle, size: tuple[int, int]) -> None:
    expected = primitives.tensor(f"coord/{size[0]}x{size[1]}")
    ours = coordinates(torch.zeros(len(expected), 1, *size))
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_oracle_centres_of_mass(primitives: Oracle) -> None:
    masks = primitives.tensor("com/masks")
    filled = masks.flatten(1).any(dim=1)
    torch.testing.assert_close(
        centres_of_mass(masks)[filled].flip(-1), primitives.tensor("com/yx").float()[filled]
    )


def test_oracle_levels(primitives: Oracle) -> None:
    given = primitives.tensors("resize_feats/in")
    for ours, expected in zip(
        remap_levels(given, LEVELS, first=2), primitives.tensors("resize_feats/out"), strict=True
    ):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_oracle_input_size(primitives: Oracle) -> None:
    rows = primitives.array("rescale_size/h_w_scale0_scale1_newh_neww_factor")
    for height, width, scale0, scale1, new_height, new_width, _ in rows:
        spec = InputSpec(long_side=int(max(scale0, scale1)), short_side=int(min(scale0, scale1)))
        assert geometry(int(height), int(width), spec).resized == (int(new_height), int(new_width))


@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("version", [1, 2])
def test_oracle_deformable_convolution(version: int, stride: int, kernel_size: int) -> None:
    oracle, prefix = Oracle("dcn_ops"), f"v{version}/stride{stride}_k{kernel_size}"
    names = ("weight", "conv_offset.weight", "conv_offset.bias")
    state = {name: oracle.tensor(f"{prefix}/{name}") for name in names}
    x = oracle.tensor(f"{prefix}/x").requires_grad_()
    conv = DeformableConv2d(
        x.shape[1], len(state["weight"]), version=version, kernel_size=kernel_size, stride=stride
    )
    conv.load_state_dict(state)
    y = conv(x)
    torch.testing.assert_close(y, oracle.tensor(f"{prefix}/y"), atol=1e-5, rtol=1e-5)
    y.backward(oracle.tensor(f"{prefix}/cotangent"))
    torch.testing.assert_close(x.grad, oracle.tensor(f"{prefix}/grad_x"), rtol=1e-3, atol=1e-5)
    for name, parameter in conv.named_parameters():
        torch.testing.assert_close(
            parameter.grad, oracle.tensor(f"{prefix}/grad/{name}"), rtol=1e-3, atol=1e-5
        )
