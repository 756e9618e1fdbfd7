"""A start that knows COCO: what is filled, and the rows of classes by their names."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from streamseg.cli import main
from streamseg.models.classes import COCO_CLASSES
from streamseg.models.input_size import geometry, resize_picture
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import ModelSpec
from streamseg.models.weights.coco_start import start_from_coco
from streamseg.models.weights.files import COCO_START, weights_folder
from tests.support.drawn import content_of_config
from tests.support.prepared import network_input
from tests.support.program import STREET, read_video

LEVELS = [
    {"pyramid": 3, "stride": 8, "grid": 40, "scale": [1, 72]},
    {"pyramid": 5, "stride": 32, "grid": 12, "scale": [48, 1024]},
]
HEAD = {
    "channels": 32,
    "convs": 1,
    "groups": 16,
    "mask_feature": {"channels": 32, "outputs": 32, "detail": 32},
    "boxes": {},
    "levels": LEVELS,
}


def knowing(*classes: str, **model: object) -> tuple[Detector, list[str]]:
    content = {
        "architecture": "solov2",
        "backbone": "shufflenet_v2_x1_0",
        "ghost_pan": {},
        "head": HEAD,
        "classes": classes,
        "input": {"canvas": [352, 480]},
    }
    torch.manual_seed(0)
    detector = Detector(ModelSpec.model_validate(content | model)).eval()
    return detector, start_from_coco(detector)


def file_rows(pyramid: int) -> torch.Tensor:
    tensors = load_file(weights_folder() / f"{COCO_START}.safetensors")
    return tensors[f"head.{pyramid - 3}.output.weight"].float()


def test_classes_take_their_rows_by_name() -> None:
    detector, unknown = knowing("zebra", "gnome", "Motorbike", "traffic_light")
    assert unknown == ["gnome"]
    for index, level in enumerate(LEVELS):
        own, given = detector.head.class_output[index].weight, file_rows(int(str(level["pyramid"])))
        for row, name in ((0, "zebra"), (2, "motorcycle"), (3, "traffic light")):
            assert torch.equal(own[row], given[COCO_CLASSES.index(name)])
        assert not (own[1] == given[:80].view(80, *own[1].shape)).flatten(1).all(dim=1).any()
        assert torch.equal(detector.head.box_output[index].weight, given[80:])


def test_a_level_that_coco_does_not_have_begins_anew() -> None:
    levels = [LEVELS[0] | {"pyramid": 2, "stride": 4}, *LEVELS]
    head = HEAD | {"levels": levels}
    detector, _ = knowing("zebra", head=head, ghost_pan=None, fpn_first=2, fpn_channels=96)
    zebra = COCO_CLASSES.index("zebra")
    fine, *coarser = (output.weight[0] for output in detector.head.class_output)
    for row, level in zip(coarser, LEVELS, strict=True):
        assert torch.equal(row, file_rows(int(str(level["pyramid"])))[zebra])
    assert all(not torch.equal(fine, file_rows(pyramid)[zebra]) for pyramid in (3, 4, 5, 6))


def test_it_finds_the_people_and_cars_of_a_street_at_once() -> None:
    frame = read_video(STREET).first
    detector, unknown = knowing("person", "toothbrush", "car")
    assert not unknown
    sizes = geometry(*frame.shape[:2], detector.spec.input)
    picture = resize_picture(frame, sizes.resized)
    with torch.no_grad():
        output = detector(network_input([picture], detector.spec.input, sizes.canvas))
    best = torch.cat([logits.sigmoid().flatten(2) for logits in output.class_logits], dim=2).amax(dim=2)[0]
    assert best[0] > 0.5
    assert best[1] < 0.1


def test_a_cell_that_shows_something_else_shows_nothing() -> None:
    frame = read_video(STREET).first
    plain, _ = knowing("person", "car")
    head = HEAD | {"boxes": {"distractors": True}}
    careful, _ = knowing("person", "car", head=head)
    assert len(careful.spec.distractors) == 78
    assert not {"person", "car"} & set(careful.spec.distractors)
    row = careful.spec.distractors.index("dog")
    assert torch.equal(careful.head.class_distractors[1].weight[row], file_rows(5)[16])
    picture = resize_picture(frame, (352, 480))
    with torch.no_grad():
        images = network_input([picture], plain.spec.input, (352, 480))
        before, after = plain(images).class_logits[0], careful(images).class_logits[0]
        trained_on = careful.train()(images).class_logits[0]
    shown = (after == before).all(dim=1)
    assert 0.001 < shown.float().mean() < 0.999
    assert (after.amax(dim=1)[~shown] <= -10).all()
    torch.testing.assert_close(trained_on, before)


def test_other_necks_and_heads_take_the_backbone() -> None:
    head = {"channels": 16, "convs": 1, "class_convs": 1, "groups": 4, "levels": LEVELS}
    detector, _ = knowing("dog", architecture="solo", head=head, ghost_pan=None, fpn_channels=16)
    tensors = load_file(weights_folder() / f"{COCO_START}.safetensors")
    for name, tensor in detector.backbone.state_dict().items():
        assert torch.equal(tensor, tensors[f"backbone.{name}"].float()), name


def test_a_run_says_which_classes_begin_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = content_of_config(tmp_path) | {"backbone_weights": "coco"}
    content["model"] |= {"backbone": "shufflenet_v2_x1_0"}
    content["schedule"] |= {"steps": 1, "batch": 2, "start_factor": 0.2, "frozen_depthwise": True}
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(content))
    assert main(["train", str(path)]) == 0
    assert "classes that COCO does not know begin anew: disc, box" in capsys.readouterr().err


def test_another_backbone_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(content_of_config(tmp_path) | {"backbone_weights": "coco"}))
    assert main(["train", str(path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: backbone_weights 'coco': for backbone shufflenet_v2_x1_0 only, not resnet18"
    )
