"""Checkpoints of the reference implementations become weights files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from streamseg.models.classes import COCO_CLASSES
from streamseg.models.convert.detectors import convert_checkpoint
from streamseg.models.spec import Architecture, ModelSpec
from streamseg.models.weights.files import load_detector, read_spec
from tests.support.checkpoints import (
    State,
    convert,
    error_of,
    make_spec,
    make_state,
    mmdet_name,
    saved,
    wx_name,
)


@pytest.mark.parametrize("rename", [mmdet_name, wx_name])
@pytest.mark.parametrize(
    "spec",
    [
        make_spec("solo"),
        make_spec("decoupled_solo"),
        make_spec("decoupled_solo", light=True),
        make_spec("solov2"),
        make_spec("decoupled_solo", light=True, dcn=1),
        make_spec("solov2", dcn=2),
    ],
    ids=["solo", "decoupled", "decoupled-light", "solov2", "decoupled-light-dcn", "solov2-dcn"],
)
def test_a_converted_checkpoint_loads_with_every_tensor(
    spec: ModelSpec,
    rename: Callable[[str, Architecture], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = make_state(spec, rename)
    path = saved(tmp_path, {"state_dict": state, "meta": {"CLASSES": ("x", "y", "z"), "epoch": 12}})
    assert convert(path) == 0
    printed = capsys.readouterr()
    (line,) = printed.out.splitlines()
    assert printed.err == ""
    assert spec.architecture in line
    assert spec.backbone in line
    assert "3 classes (x, y, z)" in line
    assert ("from mmdetection" if rename is mmdet_name else "from the authors' SOLO") in line
    detector = load_detector(tmp_path / "out.safetensors")
    expected = {"classes": ("x", "y", "z"), "input": detector.spec.input, "head": detector.spec.head}
    assert detector.spec == spec.model_copy(update=expected)
    assert [level.grid for level in detector.spec.head.levels] == [level.grid for level in spec.head.levels]
    ours = detector.state_dict()
    assert len(ours) == len(state)
    for name, tensor in ours.items():
        assert torch.equal(tensor, state[rename(name, spec.architecture)])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pth", "out.safetensors"]


def as_is(state: State) -> object:
    return state


def of_data_parallel(state: State) -> object:
    return {"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}


def with_extras(state: State) -> object:
    extras = {"data_preprocessor.mean": torch.ones(3, 1, 1), "ema_backbone_conv1_weight": torch.ones(1)}
    return {"state_dict": extras | state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}


def in_half_precision(state: State) -> object:
    return {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in state.items()}


def of_parameters(state: State) -> object:
    return {k: torch.nn.Parameter(t) if t.is_floating_point() else t for k, t in state.items()}


def in_shared_memory(state: State) -> object:
    key = "mask_head.mask_convs.0.gn.weight"
    return state | {key: state["mask_head.mask_convs.1.gn.weight"]}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrap", [as_is, of_data_parallel, with_extras, in_half_precision, of_parameters, in_shared_memory]
)
def test_state_dicts_are_taken_in_every_form(
    wrap: Callable[[State], object], legacy: bool, solo: State, tmp_path: Path
) -> None:
    path = saved(tmp_path, wrap(solo), _use_new_zipfile_serialization=not legacy)
    detector = convert_checkpoint(path).detector
    assert detector.spec.classes == ("class_0", "class_1", "class_2")
    weight = detector.state_dict()["head.mask_tower.1.conv.weight"]
    assert weight.dtype == torch.float32
    torch.testing.assert_close(weight, solo["mask_head.mask_convs.1.conv.weight"], atol=2e-3, rtol=1e-3)


def test_half_stores_fp16(solo: State, tmp_path: Path) -> None:
    path = saved(tmp_path, solo)
    assert convert(path) == 0
    whole = (tmp_path / "out.safetensors").stat().st_size
    assert convert(path, "--half") == 0
    assert (tmp_path / "out.safetensors").stat().st_size < 0.6 * whole
    weight = load_detector(tmp_path / "out.safetensors").state_dict()["backbone.conv1.weight"]
    assert torch.equal(weight, solo["backbone.conv1.weight"].half().float())


def test_others_may_read_the_file_as_the_umask_says(solo: State, tmp_path: Path) -> None:
    assert convert(saved(tmp_path, solo)) == 0
    (tmp_path / "other").touch()
    assert (tmp_path / "out.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_half_refuses_what_it_cannot_hold(
    solo: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = solo | {"backbone.bn1.running_var": torch.full((8,), 1e6)}
    assert convert(saved(tmp_path, state), "--half") == 2
    assert "backbone.bn1.running_var holds 1e+06" in error_of(capsys)
    assert not (tmp_path / "out.safetensors").exists()


def test_offsets_of_mmdetection_1_are_found(tmp_path: Path) -> None:
    spec = make_spec("decoupled_solo", light=True, dcn=1)
    state = make_state(spec, wx_name)
    old = {key.replace(".conv2.conv_offset.", ".conv2_offset."): tensor for key, tensor in state.items()}
    assert old.keys() != state.keys()
    detector = convert_checkpoint(saved(tmp_path, old)).detector
    assert detector.spec.deformable == spec.deformable
    name = "backbone.layer2.0.conv2.conv_offset.weight"
    assert torch.equal(detector.state_dict()[name], old["backbone.layer2.0.conv2_offset.weight"])


@pytest.mark.parametrize(
    ("meta", "options", "expected"),
    [
        ({"CLASSES": ("x", "y", "z")}, (), ("x", "y", "z")),
        ({"CLASSES": ["x", "y", "z"]}, (), ("x", "y", "z")),
        ({"dataset_meta": {"classes": ("x", "y", "z"), "palette": None}}, (), ("x", "y", "z")),
        ({"dataset_meta": {"CLASSES": ["x", "y", "z"]}}, (), ("x", "y", "z")),
        ({"CLASSES": ("x", "y")}, (), ("class_0", "class_1", "class_2")),
        ({"CLASSES": "xyz"}, (), ("class_0", "class_1", "class_2")),
        ({"CLASSES": (1, 2, 3)}, (), ("class_0", "class_1", "class_2")),
        ({"CLASSES": None}, (), ("class_0", "class_1", "class_2")),
        ({}, ("--classes", "p, q,r"), ("p", "q", "r")),
        ({"CLASSES": ("x", "y", "z")}, ("--classes", "p,q,r"), ("p", "q", "r")),
    ],
)
def test_class_names(
    meta: dict[str, Any], options: tuple[str, ...], expected: tuple[str, ...], solo: State, tmp_path: Path
) -> None:
    assert convert(saved(tmp_path, {"state_dict": solo, "meta": meta}), *options) == 0
    assert read_spec(tmp_path / "out.safetensors").classes == expected


@pytest.mark.parametrize("stored", [None, [name.replace(" ", "_") for name in COCO_CLASSES]])
def test_eighty_classes_are_those_of_coco(stored: list[str] | None, solo: State, tmp_path: Path) -> None:
    state = solo | {
        "mask_head.conv_cls.weight": torch.zeros(80, 32, 3, 3),
        "mask_head.conv_cls.bias": torch.zeros(80),
    }
    detector = convert_checkpoint(
        saved(tmp_path, {"state_dict": state, "meta": {"CLASSES": stored}})
    ).detector
    assert detector.spec.classes == COCO_CLASSES
