"""Weights files are what was saved, or are refused in one line that names the file and what is wrong."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from streamseg.errors import WeightsError
from streamseg.models.nets.detector import Detector
from streamseg.models.weights.files import FORMAT, load_detector, read_spec, save_weights
from tests.support.tiny import detector_spec

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(detector_spec())


def test_a_detector_comes_back_as_it_was_saved(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "tiny.safetensors"
    save_weights(detector, path, notes={"trained": "never"})
    loaded = load_detector(path)
    assert read_spec(path) == loaded.spec == detector.spec
    assert not loaded.training
    for name, tensor in detector.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert [one.name for one in tmp_path.iterdir()] == ["tiny.safetensors"]


FOREIGN = {
    "a.pth": (
        lambda path: torch.save({"a": torch.ones(1)}, path),
        "streamseg convert .*a.pth .*a.safetensors",
    ),
    "old.pt": (
        lambda path: torch.save({"a": torch.ones(1)}, path, _use_new_zipfile_serialization=False),
        "but a PyTorch checkpoint",
    ),
    "renamed.safetensors": (lambda path: torch.save({"a": torch.ones(1)}, path), "but a PyTorch checkpoint"),
    "a.onnx": (lambda path: path.write_bytes(b"\x08\x07\x12\x04"), "but an ONNX file"),
    "a.yaml": (lambda path: path.write_text("model: {}"), "but a configuration"),
    "a.safetensors": (lambda path: path.write_text("nothing"), r"not a readable safetensors file \("),
    "hub.safetensors": (lambda path: save_file({"a": torch.ones(1)}, path), "it is not of streamseg"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_another_kind_get_advice(name: str, tmp_path: Path) -> None:
    write, expected = FOREIGN[name]
    write(tmp_path / name)
    with pytest.raises(WeightsError, match=expected) as caught:
        load_detector(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(value: float, detector: Detector, tmp_path: Path) -> None:
    broken = Detector(detector_spec())
    with torch.no_grad():
        broken.backbone.conv1.weight[0, 0, 0, 0] = value
    save_weights(broken, tmp_path / "a.safetensors", half=True, notes={})
    with pytest.raises(WeightsError, match=r"a\.safetensors: tensor backbone\.conv1\.weight holds values"):
        load_detector(tmp_path / "a.safetensors")


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def with_tensor(name: str, tensor: Tensor) -> Callable[[State], State]:
    return lambda state: state | {name: tensor}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without("head.class_output.bias"), "tensor head.class_output.bias is missing"),
        (
            with_tensor("head.class_output.bias", torch.zeros(4)),
            "tensor head.class_output.bias has shape (4,), not (3,)",
        ),
        (
            with_tensor("head.class_output.bias", torch.zeros(3, dtype=torch.int64)),
            "tensor head.class_output.bias is of torch.int64, not of torch.float32",
        ),
        (with_tensor("head.iou.bias", torch.zeros(3)), "tensor head.iou.bias does not belong to this model"),
    ],
)
def test_tensors_of_another_model_are_refused(
    change: Callable[[State], State], expected: str, detector: Detector, tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    state = change({name: tensor.contiguous() for name, tensor in detector.state_dict().items()})
    save_file(state, path, metadata={"format": FORMAT, "spec": detector.spec.model_dump_json()})
    with pytest.raises(WeightsError, match=f"^{re.escape(f'{path}: {expected}')}$"):
        load_detector(path)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (None, "its metadata says format None, not 'streamseg-1'"),
        ({"format": "other"}, "its metadata says format 'other', not 'streamseg-1'"),
        ({"format": FORMAT}, "its model description is not valid"),
        ({"format": FORMAT, "spec": "{}"}, "its model description is not valid"),
    ],
)
def test_a_file_that_does_not_describe_itself_is_refused(
    metadata: dict[str, str] | None, expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(WeightsError, match=re.escape(f"{path}: {expected}")):
        read_spec(path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.safetensors"
    path.write_text("a shopping list\n")
    with pytest.raises(WeightsError, match=re.escape(f"{path}: not a readable safetensors file")):
        load_detector(path)
