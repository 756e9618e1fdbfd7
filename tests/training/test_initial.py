"""Where the weights before the first step come from."""

import logging
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from streamseg.errors import UsageError
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.windowed import WindowedHead
from streamseg.models.spec import ModelSpec
from streamseg.models.weights.files import save_weights
from streamseg.training.config import TrainConfig
from streamseg.training.initial import load_initial_weights
from tests.support.drawn import content_of_config, write_config


def make(folder: Path, backbone: str, **values: object) -> TrainConfig:
    content = content_of_config(folder)
    content["model"] |= {"backbone": backbone, "backbone_width": 64}
    return write_config(folder, content | values)


def loaded(config: TrainConfig) -> Detector:
    detector = Detector(config.model)
    load_initial_weights(detector, config)
    return detector


@pytest.mark.parametrize("name", ["tensors.pth", "tensors.safetensors"])
def test_a_resnet_takes_torchvisions_tensors_from_a_file(name: str, tmp_path: Path) -> None:
    path, state = tmp_path / name, torchvision.models.resnet18().state_dict()
    torch.save(state, path) if path.suffix == ".pth" else save_file(state, path)
    backbone = loaded(make(tmp_path, "resnet18", backbone_weights=str(path))).backbone
    for key, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, state[key]), key


def test_deformable_convolutions_take_them_too(tmp_path: Path) -> None:
    path, state = tmp_path / "resnet50.pth", torchvision.models.resnet50().state_dict()
    torch.save(state, path)
    content = content_of_config(tmp_path)
    content["model"] |= {"backbone": "resnet50", "backbone_width": 64, "deformable": {"version": 2}}
    config = write_config(tmp_path, content | {"backbone_weights": str(path)})
    own = loaded(config).backbone.state_dict()
    assert torch.equal(own["layer3.1.conv2.weight"], state["layer3.1.conv2.weight"])
    assert (own["layer3.1.conv2.conv_offset.weight"] == 0).all()


def test_a_mobilenet_gives_what_torchvisions_gives(tmp_path: Path) -> None:
    path, network = tmp_path / "mobilenet.pth", torchvision.models.mobilenet_v2().eval()
    torch.save(network.state_dict(), path)
    backbone = loaded(make(tmp_path, "mobilenet_v2", backbone_weights=str(path))).backbone
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone(images)[-1], network.features[:18](images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "weights", "expected"),
    [
        ("resnet34", "resnet18.pth", "do not fit resnet34: tensor layer1.2.conv1.weight is missing"),
        ("resnet50", "resnet18.pth", "do not fit resnet50: tensor layer1.0.conv1.weight is (64, 64, 3, 3)"),
        ("mobilenet_v2", "resnet18.pth", "do not fit mobilenet_v2"),
        ("resnet18", "nowhere.pth", "nowhere.pth: cannot be read"),
        ("resnet18", "nowhere.safetensors", "nowhere.safetensors: not a readable safetensors file"),
        ("resnet18", "words.pth", "words.pth: not a readable PyTorch checkpoint"),
        ("resnet18", "coco", "'coco': for backbone shufflenet_v2_x1_0 only, not resnet18"),
    ],
)
def test_weights_that_do_not_fit_are_named(
    backbone: str, weights: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(torchvision.models.resnet18().state_dict(), "resnet18.pth")
    Path("words.pth").write_text("no weights")
    with pytest.raises(UsageError) as caught:
        loaded(make(tmp_path, backbone, backbone_weights=weights))
    assert expected in str(caught.value)


def test_without_a_network_the_download_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    with pytest.raises(UsageError, match=r"resnet18-.*\.pth cannot be downloaded .* give the path of a file"):
        loaded(make(tmp_path, "resnet18", backbone_weights="torchvision"))


def test_a_trained_model_gives_all_that_fits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained = Detector(make(tmp_path, "resnet18").model)
    path = tmp_path / "trained.safetensors"
    save_weights(trained, path, notes={})
    content = content_of_config(tmp_path) | {"initial_weights": str(path)}
    content["model"] |= {"backbone_width": 64, "classes": ["box", "ball", "disc"]}
    with caplog.at_level(logging.INFO):
        own = loaded(write_config(tmp_path, content)).state_dict()
    assert "new: ball" in caplog.text
    for key, tensor in trained.state_dict().items():
        same = own[key][[2, 0]] if "class_output" in key else own[key]  # found by name, wherever they stand
        assert torch.equal(same, tensor), key


def another(folder: Path, trained: dict[str, object], **values: object) -> TrainConfig:
    """A configuration that starts from the weights of a model that differs from the small one."""
    content = content_of_config(folder)
    path = folder / "trained.safetensors"
    save_weights(
        Detector(write_config(folder, content | {"model": content["model"] | trained}).model), path, notes={}
    )
    return write_config(folder, content | {"initial_weights": str(path)} | values)


@pytest.mark.parametrize(
    ("trained", "expected"),
    [
        ({"backbone": "mobilenet_v2"}, "its backbone is mobilenet_v2, not resnet18"),
        ({"backbone_width": 8}, "its backbone_width is 8, not 16"),
        ({"backbone": "resnet50"}, "its backbone is resnet50, not resnet18"),
        (
            {"backbone": "resnet34", "backbone_width": 8},
            "its backbone is resnet34, not resnet18; backbone_width",
        ),
    ],
)
def test_weights_of_another_model_are_refused_with_share_and_reason(
    trained: dict[str, object], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(another(tmp_path, trained))
    assert re.search(r"fit the model too little, \d+ of \d+ tensors \(", str(caught.value))
    assert expected in str(caught.value)


def test_another_head_on_the_same_backbone_may_take_it_over(tmp_path: Path) -> None:
    head = content_of_config(tmp_path)["model"]["head"] | {"channels": 16}
    own = loaded(another(tmp_path, {"head": head})).state_dict()
    trained = load_file(tmp_path / "trained.safetensors")
    assert torch.equal(own["backbone.conv1.weight"], trained["backbone.conv1.weight"])


def test_stages_that_took_nothing_over_are_not_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamseg.training.initial._LEAST_PART", 0)
    schedule = content_of_config(tmp_path)["schedule"] | {"frozen_stages": 1}
    config = another(tmp_path, {"backbone_width": 8}, schedule=schedule)
    with pytest.raises(UsageError, match=r"frozen_stages 1, .* \d+ tensors of the backbone would be frozen"):
        loaded(config)


def test_depthwise_kernels_that_took_nothing_over_are_not_frozen(tmp_path: Path) -> None:
    content = content_of_config(tmp_path, frozen_depthwise=True)
    content["model"]["backbone"] = "shufflenet_v2_x1_0"
    with pytest.raises(
        UsageError, match=r"frozen_depthwise True: \d+ tensors of the backbone would be frozen"
    ):
        loaded(write_config(tmp_path, content))
    loaded(write_config(tmp_path, content | {"backbone_weights": "coco"}))


def test_what_is_not_reported_is_found_by_name_too(tmp_path: Path) -> None:
    head = {
        "shared_tower": False,
        "mask_feature": {"channels": 8, "outputs": 8, "detail": 8},
        "boxes": {"distractors": True},
    }
    content = content_of_config(tmp_path)
    content["model"] |= {"architecture": "solov2", "classes": ["person", "car"]}
    content["model"]["head"] |= head
    trained = Detector(write_config(tmp_path, content).model)
    path = tmp_path / "trained.safetensors"
    save_weights(trained, path, notes={})
    content["model"] |= {"classes": ["dog", "person"]}
    expected = rows(trained)
    found = rows(loaded(write_config(tmp_path, content | {"initial_weights": str(path)})))
    assert len(found) == 80
    for name, row in found.items():
        assert torch.equal(row, expected[name]), name


def with_distractors(folder: Path, *, known: bool, **values: object) -> TrainConfig:
    """A configuration for person and car; ``known``: with the neck that a start knowing COCO fits."""
    content = content_of_config(folder)
    content["model"] |= {"architecture": "solov2", "classes": ["person", "car"]}
    content["model"] |= {"backbone": "shufflenet_v2_x1_0"} | ({"ghost_pan": {}} if known else {})
    mask_feature = {"channels": 8, "outputs": 8, "detail": 8}
    content["model"]["head"] |= {
        "shared_tower": False,
        "mask_feature": mask_feature,
        "boxes": {"distractors": True},
    }
    return write_config(folder, content | values)


@pytest.mark.parametrize(
    ("known", "weights"), [(True, None), (False, "coco")], ids=["no start", "a neck that takes nothing"]
)
def test_distractors_that_the_start_does_not_know_are_refused(
    known: bool, weights: str | None, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(with_distractors(tmp_path, known=known, backbone_weights=weights))
    assert str(caught.value) == (
        "model.head.boxes.distractors: the start does not know 78 of 78 classes (bicycle, motorcycle, "
        "airplane, bus, ...); initial_weights: demo, and backbone_weights: coco with a ghost_pan of the "
        "default sizes, do. Take one of these, or set it to false"
    )


def test_distractors_that_the_start_knows_are_taken_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded(with_distractors(tmp_path, known=True, backbone_weights="coco"))
    assert "distractors" not in caplog.text


def test_distractors_that_the_start_knows_in_part_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A model without distractors of its own, of people and dogs."""
    path = tmp_path / "trained.safetensors"
    content = with_distractors(tmp_path, known=True).model.model_dump(mode="json")
    content["head"]["boxes"]["distractors"] = False
    trained = Detector(ModelSpec.model_validate(content | {"classes": ["person", "dog"]}))
    save_weights(trained, path, notes={})
    config = with_distractors(tmp_path, known=True, initial_weights=str(path))
    found = rows(loaded(config))
    assert torch.equal(found["dog"], rows(trained)["dog"])
    assert "the start does not know 77 of 78 classes (bicycle, motorcycle, airplane, bus, ...), they" in (
        caplog.text
    )


def rows(detector: Detector) -> dict[str, torch.Tensor]:
    """What each class and each distractor is found with, on the first level."""
    head, spec = detector.head, detector.spec
    assert isinstance(head, WindowedHead)
    layers = list(head.class_distractors)[:1]
    distractors = [pair for layer in layers for pair in zip(spec.distractors, layer.weight, strict=True)]
    return dict(distractors) | dict(zip(spec.classes, head.class_output[0].weight, strict=True))


def test_biases_of_the_folded_network_survive_half_precision(tmp_path: Path) -> None:
    """ImageNet's weights have such a constant in the first bottleneck, which the next norm takes out."""
    path, network = tmp_path / "mobilenet.pth", torchvision.models.mobilenet_v2().eval()
    state = network.state_dict()
    constant = torch.zeros(16)
    constant[3] = 1974.0
    state["features.1.conv.2.bias"] += constant
    state["features.2.conv.0.1.running_mean"] += state["features.2.conv.0.0.weight"][:, :, 0, 0] @ constant
    torch.save(state, path)
    backbone = loaded(make(tmp_path, "mobilenet_v2", backbone_weights=str(path))).backbone
    biases = [parameter for name, parameter in backbone.named_parameters() if name.endswith("bias")]
    assert max(float(bias.detach().abs().max()) for bias in biases) < 64
