"""Checkpoints of the reference implementations become weights files, and nothing in them is run."""

import os
import pickle
import re
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from streamseg.cli import main
from streamseg.errors import WeightsError
from streamseg.models.classes import COCO_CLASSES
from streamseg.models.convert.checkpoint import Checkpoint
from streamseg.models.convert.detectors import build_detector, convert_checkpoint
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import (
    Architecture,
    DeformableSpec,
    HeadSpec,
    LevelSpec,
    MaskFeatureSpec,
    ModelSpec,
)
from streamseg.models.weights.files import load_detector, read_spec
from tests.support.official_keys import key_lists

State = dict[str, Tensor]

_GRIDS = {"solo": (10, 8, 6, 5, 4), "decoupled_solo": (10, 8, 6, 5, 4), "solov2": (40, 36, 24, 16, 12)}

# The implementations' names, written down a second time: the other way round, and only for the tests.
_COMMON = [
    (r"neck\.lateral_convs\.(\d)\.", r"neck.lateral_convs.\1.conv."),
    (r"neck\.output_convs\.(\d)\.", r"neck.fpn_convs.\1.conv."),
    (r"mask_feature\.branches\.0\.0\.", r"mask_feature.convs_all_levels.0.conv0."),
    (r"mask_feature\.branches\.(\d)\.0\.", r"mask_feature.convs_all_levels.\1.conv0."),
    (r"mask_feature\.branches\.(\d)\.2\.", r"mask_feature.convs_all_levels.\1.conv1."),
    (r"mask_feature\.branches\.(\d)\.4\.", r"mask_feature.convs_all_levels.\1.conv2."),
    (r"kernel_tower", "kernel_convs"),
]
_MMDET = [
    *_COMMON,
    (r"head\.mask_feature\.output\.", "mask_head.mask_feature_head.conv_pred."),
    (r"head\.mask_feature\.", "mask_head.mask_feature_head."),
    (r"mask_tower", "mask_convs"),
    (r"class_tower", "cls_convs"),
    (r"mask_outputs", "conv_mask_list"),
    (r"kernel_output", "conv_kernel"),
    (r"class_output", "conv_cls"),
    (r"^head\.", "mask_head."),
]
_WX = [
    *_COMMON,
    (r"head\.mask_feature\.output\.", "mask_feat_head.conv_pred.0."),
    (r"head\.mask_feature\.", "mask_feat_head."),
    (r"mask_tower", "ins_convs"),
    (r"class_tower", "cate_convs"),
    (r"mask_outputs_", "dsolo_ins_list_"),
    (r"mask_outputs", "solo_ins_list"),
    (r"kernel_output", "solo_kernel"),
    (r"^head\.", "bbox_head."),
]


def mmdet_name(name: str, architecture: Architecture) -> str:
    for ours, theirs in _MMDET:
        name = re.sub(ours, theirs, name)
    return name


def wx_name(name: str, architecture: Architecture) -> str:
    name = name.replace("class_output", "dsolo_cate" if architecture == "decoupled_solo" else "solo_cate")
    for ours, theirs in _WX:
        name = re.sub(ours, theirs, name)
    return name


def make_spec(
    architecture: Architecture = "solo", *, light: bool = False, dcn: int = 0, convs: int = 2
) -> ModelSpec:
    levels = tuple(
        LevelSpec(pyramid=p, stride=s, grid=g, scale=(1, 64))
        for p, s, g in zip((2, 3, 4, 5, 6), (8, 8, 16, 32, 32), _GRIDS[architecture], strict=True)
    )
    head = HeadSpec(
        channels=32,
        convs=convs,
        class_convs=convs,
        shared_tower=light,
        mask_feature=MaskFeatureSpec(channels=32, outputs=32) if architecture == "solov2" else None,
        levels=levels,
    )
    return ModelSpec(
        architecture=architecture,
        backbone="resnet50" if dcn else "resnet18",
        backbone_width=8,
        deformable=DeformableSpec.model_validate({"version": dcn, "head": "last"}) if dcn else None,
        fpn_channels=32,
        head=head,
        classes=("a", "b", "c"),
    )


def make_state(spec: ModelSpec, rename: Callable[[str, Architecture], str] = mmdet_name) -> State:
    """A random model's tensors under an implementation's names."""
    torch.manual_seed(0)
    state = OrderedDict()
    for name, tensor in Detector(spec).state_dict().items():
        values = torch.randn(tensor.shape) if tensor.is_floating_point() else torch.tensor(7)
        state[rename(name, spec.architecture)] = values
    return state


@pytest.fixture(scope="module")
def solo() -> State:
    return make_state(make_spec())


def convert(path: Path, *options: str) -> int:
    return main(["convert", str(path), str(path.parent / "out.safetensors"), *options])


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert captured.out == ""
    assert line.startswith("error: ")
    return line


def saved(folder: Path, content: object, **options: Any) -> Path:
    path = folder / "checkpoint.pth"
    torch.save(content, path, **options)
    return path


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


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def bombs(marker: Path) -> dict[str, Touch]:
    import subprocess

    return {
        "os.system": Touch(os.system, f"touch {marker}"),
        "subprocess": Touch(subprocess.call, ["touch", str(marker)]),
        "exec": Touch(exec, f"open({str(marker)!r}, 'w')"),
        "nested": Touch(getattr, Touch(__import__, "os"), "system"),
        "method": Touch(Path.touch, marker),
    }


@pytest.mark.parametrize("place", ["meta", "state_dict", "bare"])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("kind", ["os.system", "subprocess", "exec", "nested", "method"])
def test_nothing_in_a_file_is_executed(
    kind: str, legacy: bool, place: str, solo: State, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    bomb = bombs(marker)[kind]
    contents = {
        "meta": {"meta": {"hook": bomb}, "state_dict": solo},
        "state_dict": {"state_dict": {"hook": bomb, **solo}},
        "bare": bomb,
    }
    path = saved(tmp_path, contents[place], _use_new_zipfile_serialization=not legacy)
    code = convert(path)
    assert not marker.exists()
    # The name os.system is refused even for a placeholder, and so is a call of what a placeholder made.
    if place == "meta" and kind not in {"os.system", "method"}:
        assert code == 0
        assert (tmp_path / "out.safetensors").exists()
    else:
        assert code == 2
        assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("os.system", r"objects of posix\.system"),
        ("method", r"objects of builtins\.getattr, pathlib\.Path, pathlib\.PosixPath"),
    ],
)
def test_a_refused_file_gets_a_reason(
    kind: str, reason: str, legacy: bool, solo: State, tmp_path: Path
) -> None:
    content = {"meta": bombs(tmp_path / "marker")[kind], "state_dict": solo}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(WeightsError, match=rf"checkpoint\.pth: holds what cannot be read .*{reason}"):
        convert_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_such_files_are_dangerous_to_others(legacy: bool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content = {"meta": bombs(marker)["os.system"]}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    torch.load(path, weights_only=False)
    assert marker.exists()


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module whose classes are in files, and which is gone when they are read."""
    module = types.ModuleType("vanished_engine")

    class HistoryBuffer:
        def __init__(self) -> None:
            self.history = np.array([1.0, 2.0])
            self.statistics = {"mean": HistoryBuffer.mean}

        def mean(self) -> float:
            return float(self.history.mean())

    class ConfigDict(dict[str, object]):
        def __reduce_ex__(self, _: object) -> tuple[object, ...]:
            return ConfigDict, (dict(self),)

    for one in (HistoryBuffer, ConfigDict):
        one.__module__, one.__qualname__ = module.__name__, one.__name__
        setattr(module, one.__name__, one)
    HistoryBuffer.mean.__qualname__ = "HistoryBuffer.mean"
    HistoryBuffer.mean.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize("legacy", [False, True])
def test_foreign_objects_beside_the_tensors_do_no_harm(
    legacy: bool, foreign: types.ModuleType, solo: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {
        "meta": {
            "seed": np.int64(3),
            "dataset_meta": {"classes": ("x", "y", "z")},
            "cfg": foreign.ConfigDict(a=foreign.ConfigDict(b=1)),
        },
        "message_hub": {"log_scalars": OrderedDict(loss=foreign.HistoryBuffer()), "time": np.float64(1.5)},
        "state_dict": solo,
    }
    path = saved(tmp_path, content, _use_new_zipfile_serialization=not legacy)
    monkeypatch.delitem(sys.modules, foreign.__name__)
    assert convert_checkpoint(path).detector.spec.classes == ("x", "y", "z")


def test_what_no_placeholder_can_stand_in_for_is_named(
    solo: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Listed(list[int]):
        pass

    Listed.__qualname__ = "Listed"
    Listed.__module__ = __name__
    sys.modules[__name__].Listed = Listed  # type: ignore[attr-defined]
    assert convert(saved(tmp_path, {"meta": Listed([1, 2]), "state_dict": solo})) == 2
    assert f"cannot be read without running it: objects of {__name__}.Listed" in error_of(capsys)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def damage(path: Path, *, at: float) -> None:
    content = bytearray(path.read_bytes())
    place = int(at * len(content))
    content[place : place + 8] = bytes(8)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda path, state: path.write_text("a shopping list\n" * 50), "not a readable PyTorch checkpoint"),
        (lambda path, state: path.write_bytes(b""), "the file is empty"),
        (lambda path, state: None, "cannot be read (No such file or directory)"),
        (lambda path, state: path.mkdir(), "cannot be read (Is a directory)"),
        (lambda path, state: (torch.save(state, path), cut(path)), "damaged or not complete"),
        (
            lambda path, state: (torch.save(state, path, _use_new_zipfile_serialization=False), cut(path)),
            "not a readable PyTorch checkpoint",
        ),
        (lambda path, state: (torch.save(state, path), damage(path, at=0.01)), "/data.pkl is damaged"),
        (lambda path, state: (torch.save(state, path), damage(path, at=0.5)), " is damaged)"),
        (lambda path, state: path.write_bytes(pickle.dumps(1)), "not a readable PyTorch checkpoint"),
        (lambda path, state: torch.save({}, path), "holds no tensors"),
        (lambda path, state: torch.save({"state_dict": {}}, path), "holds no tensors"),
        (lambda path, state: torch.save([1], path), "holds a list, not a state dict"),
        (lambda path, state: torch.save({"state_dict": None}, path), "holds a NoneType, not a state dict"),
        (
            lambda path, state: torch.save({"model": state}, path),
            "its entry 'model' is a OrderedDict, not a tensor",
        ),
        (lambda path, state: torch.save({7: torch.ones(1)}, path), "its entry 7 is a Tensor"),
        (
            lambda path, state: torch.save({"a": torch.eye(3).to_sparse()}, path),
            "tensor a is not stored as plain numbers",
        ),
        (
            lambda path, state: torch.save({"a": torch.ones(3, device="meta")}, path),
            "tensor a is not stored as plain numbers",
        ),
    ],
)
def test_files_that_are_no_checkpoints(
    write: Callable[[Path, State], object],
    expected: str,
    solo: State,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "checkpoint.pth"
    write(path, solo)
    before = sorted(tmp_path.iterdir())
    assert convert(path) == 2
    line = error_of(capsys)
    assert f"{path}: " in line
    assert expected in line
    assert sorted(tmp_path.iterdir()) == before


def without(*keys: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if key not in keys}


def with_tensor(key: str, *shape: int) -> Callable[[State], State]:
    return lambda state: state | {key: torch.zeros(shape)}


def without_head(state: State) -> State:
    return {key: tensor for key, tensor in state.items() if key.startswith("backbone.")}


def of_mask_rcnn(state: State) -> State:
    keys = (
        "rpn_head.rpn_conv.weight",
        "roi_head.bbox_head.fc_cls.weight",
        "roi_head.mask_head.convs.0.weight",
    )
    return without_head(state) | {key: torch.zeros(1) for key in keys}


def of_torchvision(state: State) -> State:
    return {key.removeprefix("backbone."): tensor for key, tensor in without_head(state).items()}


def mixed(state: State) -> State:
    return state | {"bbox_head.solo_cate.weight": state["mask_head.conv_cls.weight"]}


def twice(state: State) -> State:
    return state | {
        "backbone.a.conv2_offset.weight": torch.zeros(1),
        "backbone.a.conv2.conv_offset.weight": torch.zeros(1),
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            without("mask_head.mask_convs.1.gn.weight"),
            "tensor mask_head.mask_convs.1.gn.weight (here head.mask_tower.1.gn.weight) is missing",
        ),
        (
            with_tensor("neck.fpn_convs.2.conv.weight", 32, 32, 1, 1),
            "tensor neck.fpn_convs.2.conv.weight (here neck.output_convs.2.weight) has shape (32, 32, 1, 1), "
            "not (32, 32, 3, 3)",
        ),
        (with_tensor("mask_head.cls_convs.0.conv.weight"), "has shape (), not four dimensions"),
        (with_tensor("backbone.bn1.num_batches_tracked"), "is of torch.float32, not of torch.int64"),
        (with_tensor("backbone.fc.weight", 10, 8), "tensor backbone.fc.weight"),
        (with_tensor("decode_head.weight", 1), "tensor decode_head.weight is none of a SOLO model"),
        (with_tensor("mask_head.conv_iou.weight", 1), "tensor mask_head.conv_iou.weight is none of"),
        (with_tensor("mask_head.mask_convs.999999999.conv.weight", 1), "mask_head.mask_convs.2.conv.weight"),
        (with_tensor("backbone.layer3.9.conv1.weight", 1), "backbone.layer3.2.conv1.weight"),
        (with_tensor("backbone.layer3.2.conv1.weight", 1), "its backbone has 3 blocks in layer3"),
        (without_head, "it has no head"),
        (of_mask_rcnn, "tensor rpn_head.rpn_conv.weight is none of a SOLO model"),
        (of_torchvision, "tensor conv1.weight is none of a SOLO model"),
        (mixed, "tensor bbox_head.solo_cate.weight is none of"),
        (
            twice,
            "tensors backbone.a.conv2_offset.weight and backbone.a.conv2.conv_offset.weight are the same",
        ),
    ],
)
def test_checkpoints_of_no_supported_model(
    change: Callable[[State], State],
    expected: str,
    solo: State,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = saved(tmp_path, {"state_dict": change(solo)})
    assert convert(path) == 2
    line = error_of(capsys)
    assert f"{path}: " in line
    assert expected in line
    assert list(tmp_path.iterdir()) == [path]


def test_widths_that_cannot_be_built_are_refused(tmp_path: Path) -> None:
    state = make_state(make_spec())
    odd = {
        key: torch.zeros(tuple(33 if n == 32 else n for n in tensor.shape)) if "mask_head" in key else tensor
        for key, tensor in state.items()
    }
    with pytest.raises(WeightsError, match="channels 33 is not a multiple of groups 32"):
        convert_checkpoint(saved(tmp_path, odd))


def test_offsets_of_no_version_are_refused(tmp_path: Path) -> None:
    state = make_state(make_spec("solov2", dcn=2))
    odd = {
        key: torch.zeros(20, *tensor.shape[1:]) if ".conv_offset." in key else tensor
        for key, tensor in state.items()
    }
    with pytest.raises(WeightsError, match="has 20 channels, neither 18"):
        convert_checkpoint(saved(tmp_path, odd))


@pytest.mark.parametrize(
    ("architecture", "rename"), [("solo", wx_name), ("decoupled_solo", mmdet_name), ("solov2", wx_name)]
)
def test_whichever_tensor_is_missing_or_wrong_is_named(
    architecture: Architecture, rename: Callable[[str, Architecture], str]
) -> None:
    names = {"classes": ("a", "b", "c")}
    whole = make_state(make_spec(architecture, convs=1), rename)
    state = {key: tensor.to("meta") for key, tensor in whole.items()}
    for key in [
        key for key in state if "head" in key or key.startswith(("backbone.conv1", "neck.fpn_convs.0"))
    ]:
        missing = Checkpoint({k: t for k, t in state.items() if k != key}, None)
        with pytest.raises(WeightsError, match=rf"^tensor {re.escape(key)} \(here \S+\) is missing$"):
            build_detector(missing, **names)
        first, *rest = state[key].shape
        wrong = Checkpoint(state | {key: torch.zeros(first + 1, *rest, device="meta")}, None)
        with pytest.raises(WeightsError, match=rf"^tensor {re.escape(key)} \(here \S+\) has shape"):
            build_detector(wrong, **names)


def test_a_missing_tensor_of_an_official_model_is_named() -> None:
    def tensor(key: str, shape: tuple[int, ...]) -> Tensor:
        kind = torch.int64 if key.endswith("num_batches_tracked") else torch.float32
        return torch.zeros(shape, dtype=kind, device="meta")

    shapes = key_lists()["wx_solov2_r101_dcn_fpn_8gpu_3x"].tensors
    tensors = {key: tensor(key, shape) for key, shape in shapes.items()}
    for key in (
        "bbox_head.solo_kernel.bias",
        "mask_feat_head.convs_all_levels.3.conv2.conv.conv_offset.bias",
    ):
        with pytest.raises(WeightsError, match=f"tensor {re.escape(key)} .* is missing"):
            build_detector(Checkpoint({k: t for k, t in tensors.items() if k != key}, None))


@pytest.mark.parametrize(
    ("out", "options", "expected"),
    [
        ("out.pth", [], "out.pth: the name of a weights file must end in .safetensors"),
        ("no/out.safetensors", [], "there is no folder"),
        ("folder.safetensors", [], "is a folder"),
        ("out.safetensors", ["--classes", "a,b"], "the model has 3 classes, 2 names were given"),
        ("out.safetensors", ["--classes", "a,b,b"], "classes must be different names"),
        ("out.safetensors", ["--classes", "a,,b"], "there is an empty name"),
        ("out.safetensors", ["--clases", "a"], "--clases"),
    ],
)
def test_wrong_usage(
    out: str, options: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, make_state(make_spec()))
    (tmp_path / "folder.safetensors").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert main(["convert", str(path), str(tmp_path / out), *options]) == 2
    assert expected in error_of(capsys)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_cannot_be_written_fails_the_run(
    solo: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path, solo)
    (tmp_path / "out.safetensors").write_text("an older one")
    (tmp_path / "out.safetensors.partial").mkdir()
    assert convert(path) == 1
    assert "out.safetensors: cannot be written" in error_of(capsys)
    assert (tmp_path / "out.safetensors").read_text() == "an older one"
