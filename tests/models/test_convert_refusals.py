"""What cannot be converted is refused in one line, which names the file and what is wrong."""

import pickle
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from streamseg.cli import main
from streamseg.errors import WeightsError
from streamseg.models.convert.checkpoint import Checkpoint
from streamseg.models.convert.detectors import build_detector, convert_checkpoint
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import Architecture
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
from tests.support.official_keys import key_lists


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


def damage(path: Path, *, at: float) -> None:
    content = bytearray(path.read_bytes())
    place = int(at * len(content))
    content[place : place + 8] = bytes(8)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("ins_head.cate_pred.weight", "SOLOv2 of AdelaiDet"),
        ("proposal_generator.fcos_head.cls_tower.0.weight", "FCOS of AdelaiDet"),
        ("blender.weight", "BlendMask of AdelaiDet"),
        ("roi_heads.mask_head.weight", "an R-CNN"),
        ("backbone.bottom_up.stem.conv1.weight", "detectron2"),
        ("module.rpn_head.rpn_cls.weight", "an R-CNN of mmdetection"),
        ("layer1.0.conv1.weight", "a ResNet alone"),
    ],
)
def test_checkpoints_of_other_models_are_called_by_their_name(key: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"model": {key: torch.ones(1)}, "iteration": 7}, path)
    with pytest.raises(WeightsError, match=f"other.pth: .* it is a checkpoint of {kind}"):
        convert_checkpoint(path)


def test_a_tensor_that_is_no_number_is_named(solo: State) -> None:
    key = next(key for key in solo if key.endswith("conv_cls.weight"))
    spoilt = solo | {key: torch.full_like(solo[key], float("nan"))}
    with pytest.raises(WeightsError, match=rf"tensor {re.escape(key)} .*NaN"):
        build_detector(Checkpoint(spoilt, None))


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
            lambda path, state: torch.save({"weights": state}, path),
            "its entry 'weights' is a OrderedDict, not a tensor",
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


def test_widths_that_cannot_be_built_are_refused(solo: State, tmp_path: Path) -> None:
    odd = {
        key: torch.zeros(tuple(33 if n == 32 else n for n in tensor.shape)) if "mask_head" in key else tensor
        for key, tensor in solo.items()
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
    architecture: Architecture, rename: Callable[[str, Architecture], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever is wrong with one tensor, the others still tell the same model: it is built once.
    monkeypatch.setattr("streamseg.models.convert.detectors.Detector", cache(Detector))
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
    *,
    out: str,
    options: list[str],
    expected: str,
    solo: State,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = saved(tmp_path, solo)
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
