"""Targets, losses and gradients equal the reference."""

import pytest
import torch
from torch import Tensor

from streamseg.models.convert.infer_spec import GRIDS, PYRAMID, SCALES, STRIDES
from streamseg.models.spec import LevelSpec
from streamseg.training.losses import solo_loss
from streamseg.training.targets import Annotations, LevelTargets, build_targets
from tests.models.test_head_oracle import load_head
from tests.support.oracle import TINY_SCALES, Oracle, names_of

TINY_HEADS = [name for name in names_of("head") if Oracle(name).keys("targets")]
V1_MASK_STRIDES, V2_MASK_STRIDES = (4, 4, 8, 16, 16), (4, 4, 4, 4, 4)
DEFAULT_LEVELS = tuple(
    LevelSpec(pyramid=p, stride=s, grid=g, scale=r)
    for p, s, g, r in zip(PYRAMID, STRIDES, GRIDS, SCALES, strict=True)
)


def no_annotations() -> Annotations:
    return Annotations(
        torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), torch.zeros(0, 128, 160, dtype=torch.uint8)
    )


def targets_of(oracle: Oracle, *truths: Annotations) -> list[list[LevelTargets]]:
    architecture, head, _ = oracle.head
    pairs = architecture == "solov2"
    strides = V2_MASK_STRIDES if pairs else V1_MASK_STRIDES
    return [
        build_targets(truth, head.levels, classes=3, mask_strides=strides, pairs=pairs) for truth in truths
    ]


def pairs_per_cell(targets: list[list[LevelTargets]]) -> float:
    """mmdetection divides SOLOv2's mask loss by the distinct cells, the authors and we by the pairs."""
    levels = [level for image in targets for level in image]
    return sum(len(t.rows) for t in levels) / sum(int(t.cells) for t in levels)


def assert_targets_equal(oracle: Oracle, prefix: str, levels: list[LevelTargets]) -> None:
    """Against ``labels``, ``pos_mask_targets`` and whatever the file says of the cells."""
    checked = set()
    for level, target in enumerate(levels):
        grid = target.class_ids.shape[0]
        cells = target.rows * grid + target.columns
        ours = {
            "labels": target.class_ids,
            "pos_mask_targets": target.masks,
            "xy_pos_yx": torch.stack((target.rows, target.columns), dim=1),
            "pos_indexes": cells,
            "pos_mask": torch.zeros(grid * grid, dtype=torch.bool).index_fill(0, cells, value=True),
        }
        for name, mine in ours.items():
            if f"{prefix}/{name}/{level}" in oracle:
                checked.add(name)
                expected = oracle.tensor(f"{prefix}/{name}/{level}")
                assert torch.equal(mine.to(expected.dtype), expected), f"{prefix}/{name}/{level}"
    assert "labels" in checked


@pytest.fixture(params=TINY_HEADS)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return Oracle(request.param)


@pytest.mark.parametrize("image", [0, 1])
def test_oracle_targets(oracle: Oracle, image: int) -> None:
    (levels,) = targets_of(oracle, oracle.annotations(f"gt{image}"))
    assert_targets_equal(oracle, f"targets{image}", levels)


@pytest.mark.parametrize("name", names_of("targets"))
def test_oracle_targets_of_a_large_image(name: str) -> None:
    oracle = Oracle(name)
    truth = oracle.annotations("gt")
    architectures = sorted({key.split("/")[0] for key in oracle.keys("")} - {"gt"})
    assert architectures
    for architecture in architectures:
        pairs = architecture.startswith("solov2")
        levels = build_targets(
            truth,
            DEFAULT_LEVELS,
            classes=int(oracle.array(f"{architecture}/labels/0").max()),  # that of the background
            mask_strides=V2_MASK_STRIDES if pairs else V1_MASK_STRIDES,
            pairs=pairs,
        )
        assert_targets_equal(oracle, architecture, levels)


@pytest.mark.parametrize("name", names_of("boundary") or [None])
def test_oracle_targets_on_cell_borders(name: str | None) -> None:
    """Each case is one object whose centre of mass lies exactly on the border of two cells."""
    if name is None:
        pytest.skip("no file of objects on cell borders in the folder")
    oracle = Oracle(name)
    cases = sorted({key.split("/")[0] for key in oracle.keys("case")})
    assert cases
    for case in cases:
        keys = oracle.keys(f"{case}/")
        prefix = next(key for key in keys if key.endswith("labels/0")).removesuffix("/labels/0")
        grids = [len(oracle.array(key)) for key in sorted(k for k in keys if "labels/" in k)]
        scales = SCALES if grids[0] == DEFAULT_LEVELS[0].grid else TINY_SCALES
        levels = [
            LevelSpec(pyramid=p, stride=s, grid=g, scale=r)
            for p, s, g, r in zip(PYRAMID, STRIDES, grids, scales, strict=True)
        ]
        truth = single_object(oracle, keys)
        background = max(int(oracle.array(k).max()) for k in keys if "labels/" in k)
        targets = build_targets(truth, levels, classes=background, mask_strides=V1_MASK_STRIDES, pairs=False)
        assert_targets_equal(oracle, prefix, targets)


def single_object(oracle: Oracle, keys: list[str]) -> Annotations:
    """The object of a case, whatever its keys are called before ``labels``, ``boxes`` and ``masks``."""
    names = [key.removesuffix(".bits") for key in keys if not key.endswith(".shape")]

    def find(*ends: str) -> Tensor:
        return oracle.tensor(next(n for n in names if n.endswith(ends) and "pos_mask" not in n))

    masks = find("masks", "mask").to(torch.uint8)
    return Annotations(
        class_ids=find("labels", "label").long().reshape(1),
        boxes=find("boxes", "box").float().reshape(1, 4),
        masks=masks.reshape(1, *masks.shape[-2:]),
    )


def test_oracle_losses_and_gradients(oracle: Oracle) -> None:
    head = load_head(oracle)
    targets = targets_of(oracle, oracle.annotations("gt0"), oracle.annotations("gt1"))
    losses = solo_loss(head(oracle.tensors("feats")), targets)
    scale = pairs_per_cell(targets)
    torch.testing.assert_close(losses.mask * scale, oracle.tensor("loss/loss_mask"), rtol=1e-5, atol=0)
    torch.testing.assert_close(losses.classes, oracle.tensor("loss/loss_cls"), rtol=1e-5, atol=0)
    (losses.mask * scale + losses.classes).backward()
    expected = oracle.head_tensors("grad/")
    assert expected
    for name, parameter in head.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5)


def test_oracle_mask_loss_of_the_authors(oracle: Oracle) -> None:
    if "loss_wx/loss_mask" not in oracle:
        return  # theirs equals mmdetection's for SOLO and Decoupled SOLO
    targets = targets_of(oracle, oracle.annotations("gt0"), oracle.annotations("gt1"))
    losses = solo_loss(load_head(oracle)(oracle.tensors("feats")), targets)
    torch.testing.assert_close(losses.mask, oracle.tensor("loss_wx/loss_mask"), rtol=1e-5, atol=0)
    torch.testing.assert_close(losses.classes, oracle.tensor("loss_wx/loss_cls"), rtol=1e-5, atol=0)


def test_oracle_loss_without_objects(oracle: Oracle) -> None:
    head = load_head(oracle)
    losses = solo_loss(head(oracle.tensors("feats")), targets_of(oracle, no_annotations(), no_annotations()))
    assert losses.mask.item() == 0
    torch.testing.assert_close(losses.classes, oracle.tensor("loss_empty_gt/loss_cls"), rtol=1e-5, atol=0)
    (losses.mask + losses.classes).backward()
    assert all(p.grad is not None for p in head.parameters())


def test_unknown_classes_cost_nothing(oracle: Oracle) -> None:
    with torch.no_grad():
        output = load_head(oracle)(oracle.tensors("feats"))
    nothing: list[Tensor] = [torch.zeros_like(logits) for logits in output.class_logits]
    targets = targets_of(oracle, no_annotations(), no_annotations())
    assert solo_loss(output, targets, class_weights=nothing).classes.item() == 0
