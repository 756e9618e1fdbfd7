"""Every architecture with every option gives outputs of the promised shapes, and instances."""

import pytest
import torch
from pydantic import ValidationError

from streamseg.models.nets.backbones import build_backbone
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.layers import align_to_grid
from streamseg.models.spec import (
    Alignment,
    Architecture,
    BackboneName,
    BoxBranchSpec,
    DeformableSpec,
    GhostPanSpec,
    ModelSpec,
)
from tests.support.detect import detect
from tests.support.tiny import ARCHITECTURES, tiny_spec


def check(spec: ModelSpec) -> None:
    torch.manual_seed(0)
    detector = Detector(spec).eval()
    with torch.no_grad():
        output = detector(torch.randn(2, 3, 64, 96))
    assert output.mask_size == (16, 24)
    for logits, level in zip(output.class_logits, spec.head.levels, strict=True):
        assert logits.shape == (2, 3, level.grid, level.grid)
    cells = torch.tensor([0, 1, 3])
    for level, stride in enumerate(spec.mask_strides):
        soft = output.soft_masks(level, 1, cells, cells)
        assert soft.shape == (3, 64 // stride, 96 // stride)
        assert ((soft >= 0) & (soft <= 1)).all()
    every_cell = spec.test.model_copy(
        update={"score_threshold": 0.001, "mask_threshold": 0.0, "filter_threshold": 0.0}
    )
    for found in detect(detector, output, test=every_cell):
        assert 0 < len(found.scores) <= 100
        assert found.soft_masks.shape == (len(found.scores), 16, 24)
        assert (found.scores.diff() <= 0).all()


@pytest.mark.parametrize("alignment", ["interpolate", "adaptive_pool", "roi_align"])
@pytest.mark.parametrize("coordinates", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_head_options(architecture: Architecture, coordinates: bool, alignment: Alignment) -> None:
    check(tiny_spec(architecture, coordinates=coordinates, alignment=alignment))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_separable_towers(architecture: Architecture) -> None:
    check(tiny_spec(architecture, towers="separable"))


def test_one_mask_tower_for_both_directions() -> None:
    check(tiny_spec("decoupled_solo", shared_tower=True))
    check(tiny_spec("decoupled_solo", shared_tower=True, coordinates=False))


@pytest.mark.parametrize("where", ["none", "last", "all"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_deformable(architecture: Architecture, version: int, where: str) -> None:
    deformable = DeformableSpec.model_validate({"version": version, "head": where})
    check(tiny_spec(architecture, backbone="resnet50", deformable=deformable))


@pytest.mark.parametrize(
    "backbone",
    [
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnext101_64x4d"),
        *("mobilenet_v2", "shufflenet_v2_x1_0"),
    ],
)
def test_backbones_give_four_maps(backbone: BackboneName) -> None:
    network = build_backbone(backbone, width=64 if backbone == "resnext101_64x4d" else 8).eval()
    with torch.no_grad():
        maps = network(torch.randn(1, 3, 64, 96))
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [tuple(m.shape) for m in maps] == [
        (1, channels, *size) for channels, size in zip(network.channels, sizes, strict=True)
    ]


@pytest.mark.parametrize("method", ["interpolate", "adaptive_pool", "roi_align"])
def test_alignment_keeps_what_is_where(method: Alignment) -> None:
    ramp = torch.linspace(0, 1, 24).expand(1, 1, 16, 24)
    cells = align_to_grid(ramp, 8, method=method)
    assert cells.shape == (1, 1, 8, 8)
    torch.testing.assert_close(cells[0, 0, 0], torch.linspace(1 / 16, 15 / 16, 8), atol=0.07, rtol=0)
    assert (cells[0, 0].diff(dim=0) == 0).all()


def test_a_map_of_constant_value_stays_constant_when_aligned() -> None:
    for size in (4, 12):
        cells = align_to_grid(torch.full((1, 1, 8, 8), 3.0), size, method="roi_align")
        assert torch.equal(cells, torch.full((1, 1, size, size), 3.0))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"architecture": "solov2"}, "mask_feature"),
        ({"architecture": "solo", "shared": True}, "shared_tower"),
        ({"deformable": DeformableSpec()}, "no bottlenecks"),
        ({"deformable": DeformableSpec(backbone=False, head="all"), "towers": "separable"}, "dense towers"),
        ({"classes": ("a", "a")}, "different names"),
        ({"ghost_pan": GhostPanSpec()}, "level P2 is finer than ghost_pan's P3"),
        ({"boxes": BoxBranchSpec()}, "head.boxes and head.mask_feature.detail belong together"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, object], complaint: str) -> None:
    content = tiny_spec("decoupled_solo").model_dump()
    content["head"]["shared_tower"] = bool(change.pop("shared", False))
    content["head"] |= {key: change.pop(key) for key in ("boxes", "towers") if key in change}
    with pytest.raises(ValidationError, match=complaint):
        ModelSpec.model_validate(content | change)


def with_stride(architecture: Architecture, stride: int, *, first: int = 2) -> ModelSpec:
    content = tiny_spec(architecture).model_dump() | {"fpn_first": first}
    content["head"]["levels"] = [{"pyramid": 5, "stride": stride, "grid": 4, "scale": (1, 512)}]
    return ModelSpec.model_validate(content)


@pytest.mark.parametrize(
    ("architecture", "stride", "first", "allowed"),
    [
        ("solov2", 12, 2, "4, 8, 16, 32, 64"),
        ("solov2", 4, 3, "8, 16, 32, 64"),
        ("solov2", 128, 2, "4, 8, 16, 32, 64"),
        ("solo", 64, 2, "4, 8, 16, 32"),
        ("decoupled_solo", 64, 3, "8, 16, 32"),
    ],
)
def test_strides_that_no_map_has_are_refused(
    architecture: Architecture, stride: int, first: int, allowed: str
) -> None:
    with pytest.raises(ValidationError, match=rf"level P5 has stride {stride}; allowed are {allowed} \["):
        with_stride(architecture, stride, first=first)


@pytest.mark.parametrize(
    ("architecture", "stride"),
    [("solo", 4), ("solo", 32), ("decoupled_solo", 32), ("solov2", 4), ("solov2", 64)],
)
def test_masks_of_every_stride_fit_the_canvas(architecture: Architecture, stride: int) -> None:
    """Also one of an odd number of 32 pixels, which a map of stride 64 does not fit."""
    spec = with_stride(architecture, stride)
    detector = Detector(spec).eval()
    one = torch.tensor([1])
    with torch.no_grad():
        output = detector(torch.randn(1, 3, 96, 160))
    expected = (1, 96 // spec.mask_strides[0], 160 // spec.mask_strides[0])
    assert output.soft_masks(0, 0, one, one).shape == expected


def test_channels_need_not_divide_where_there_are_no_norms() -> None:
    content = tiny_spec("solov2").model_dump() | {"fpn_first": 3}
    head = {"channels": 10, "boxes": {}, "levels": content["head"]["levels"][1:]}
    content["head"] |= head
    content["head"]["mask_feature"] = {"channels": 6, "outputs": 6, "detail": 6}
    detector = Detector(ModelSpec.model_validate(content)).eval()
    with torch.no_grad():
        assert detector(torch.randn(1, 3, 64, 64)).mask_size == (16, 16)
    content["head"] |= {"boxes": None}
    with pytest.raises(ValidationError, match="channels 10 is not a multiple of groups 4"):
        ModelSpec.model_validate(content)


def test_coco_names_have_a_short_form() -> None:
    content = tiny_spec("solo").model_dump() | {"classes": "coco"}
    spec = ModelSpec.model_validate(content)
    assert len(spec.classes) == 80
    assert spec.classes[0] == "person"
    assert ModelSpec.model_validate_json(spec.model_dump_json()) == spec
