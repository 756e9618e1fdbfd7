"""The published models: their YAML files are the models whose checkpoints the lists of tensors are of."""

import re
from pathlib import Path

import pytest
import torch

from streamseg.cli import main
from streamseg.errors import ConfigError
from streamseg.models.convert.infer_spec import infer_model
from streamseg.models.convert.key_maps import recognise
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import ModelSpec
from streamseg.models.weights.zoo import count_parameters, official_models, read_model
from tests.support.official_keys import KeyList, key_lists

MODELS = official_models()
NAMES = sorted(key_lists())


def our_shapes(keys: KeyList) -> dict[str, tuple[int, ...]]:
    dialect = recognise(keys.tensors)
    shapes = {}
    for key, shape in keys.tensors.items():
        name = dialect.ours(key)
        assert name is not None
        assert name not in shapes
        assert dialect.theirs(name) == key
        shapes[name] = shape
    return shapes


def built_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        detector = Detector(spec)
    return {name: tuple(tensor.shape) for name, tensor in detector.state_dict().items()}


def lists_of(path: Path) -> list[str]:
    """Names of the lists whose configurations a YAML file's comment names."""
    found = re.findall(r"^#   (mmdetection|authors) +(\S+): ", path.read_text(), re.MULTILINE)
    return [f"{'mmdet' if whose == 'mmdetection' else 'wx'}_{config}" for whose, config in found]


@pytest.mark.parametrize("name", NAMES)
def test_a_list_of_tensors_is_a_model_one_to_one(name: str) -> None:
    keys = key_lists()[name]
    shapes = our_shapes(keys)
    spec = infer_model(shapes)
    assert built_shapes(spec) == shapes
    assert count_parameters(spec) == keys.parameters


@pytest.mark.parametrize("model", MODELS)
def test_a_yaml_file_is_the_model_of_its_lists(model: str) -> None:
    spec = read_model(MODELS[model])
    lists = lists_of(MODELS[model])
    assert lists
    for name in lists:
        shapes = our_shapes(key_lists()[name])
        assert built_shapes(spec) == shapes
        assert infer_model(shapes) == spec


def test_every_list_belongs_to_one_yaml_file() -> None:
    assert sorted(name for path in MODELS.values() for name in lists_of(path)) == NAMES


def test_models_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for model in MODELS:
        assert any(line.startswith(f"  {model}: ") for line in lines)
    assert (
        "  solov2_r101_dcn: solov2, resnet101, deformable v2 (backbone, head: all), input 1333x800, "
        "68.73 M parameters" in lines
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("architecture: solo\n", "head: Field required"),
        ("classes: coco\nhead: {levels: []}\n", "head.levels"),
        ("classes: coco\nhed: {}\n", "unknown key hed"),
        ("- 1\n", "must be a mapping"),
        ("a: [\n", "not valid YAML"),
        (None, "cannot be read"),
    ],
)
def test_a_yaml_file_that_is_no_model_is_refused(text: str | None, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(str(path))) as caught:
        read_model(path)
    assert expected in str(caught.value)
