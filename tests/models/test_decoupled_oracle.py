"""The decoupled heads equal the reference: raw outputs, and instances in every setting."""

import numpy as np
import pytest
import torch

from streamseg.masks.upsample import Geometry, enlarge
from streamseg.models.decoupled import DecoupledHead, DecoupledOutput
from streamseg.models.detector import detect
from streamseg.models.fpn import remap_levels
from streamseg.models.postprocess import Detections
from tests.models.tiny import LEVELS, SETTINGS, STRIDES, head_spec
from tests.oracle import Oracle, head_state

CANVAS = (128, 160)
NAMES = ["mmdet_decoupled", "mmdet_decoupled_light"]


@pytest.fixture(scope="module", params=NAMES)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return Oracle(request.param, common="common_tiny")


@pytest.fixture(scope="module")
def output(oracle: Oracle) -> DecoupledOutput:
    state = head_state(oracle.state_dict())
    head = DecoupledHead(head_spec(light="mask_tower.0.conv.weight" in state), inputs=16, classes=3)
    head.load_state_dict(state)
    with torch.no_grad():
        result: DecoupledOutput = head(remap_levels(oracle.tensors("feats"), LEVELS, first=2))
    return result


def test_oracle_raw_outputs(oracle: Oracle, output: DecoupledOutput) -> None:
    for level in range(5):
        for ours, name in ((output.mask_x, "mask_x"), (output.mask_y, "mask_y")):
            expected = oracle.tensor(f"train_raw/{name}/{level}")
            torch.testing.assert_close(ours[level][:1, :, ::2, ::2], expected, atol=1e-5, rtol=0)
        expected = oracle.tensor(f"train_raw/cls/{level}")
        torch.testing.assert_close(output.class_logits[level], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("image", [0, 1])
def test_oracle_instances(oracle: Oracle, output: DecoupledOutput, setting: str, image: int) -> None:
    found = detect(output, strides=STRIDES, test=SETTINGS[setting])[image]
    prefix = f"{setting}/img{image}"
    assert found.class_ids.tolist() == oracle.array(f"{prefix}/labels").astype(int).tolist()
    torch.testing.assert_close(found.scores, oracle.tensor(f"{prefix}/scores"), atol=2e-4, rtol=0)
    if setting != "predEmpty":
        assert_masks_equal(oracle, prefix, found, mask_threshold=SETTINGS[setting].mask_threshold)


def assert_masks_equal(oracle: Oracle, prefix: str, found: Detections, *, mask_threshold: float) -> None:
    source = tuple(oracle.array(f"{prefix}/ori_shape").tolist())
    resized = tuple(oracle.array(f"{prefix}/img_shape").tolist())
    boxes, crops = enlarge(
        found.soft_masks.numpy(), Geometry(source, resized, CANVAS), threshold=mask_threshold
    )
    ours = np.zeros((len(crops), *source), dtype=bool)
    for mask, (x1, y1, x2, y2), crop in zip(ours, boxes, crops, strict=True):
        mask[y1:y2, x1:x2] = crop
    certain = ~oracle.array(f"{prefix}/masks_uncertain")
    expected = oracle.array(f"{prefix}/masks")
    assert ((ours == expected) | ~certain).all()


def test_batched_equals_single(output: DecoupledOutput) -> None:
    together = detect(output, strides=STRIDES, test=SETTINGS["predA"])
    for image, expected in enumerate(together):
        alone = DecoupledOutput(
            *([t[image : image + 1] for t in getattr(output, name)] for name in DecoupledOutput.__slots__)
        )
        (found,) = detect(alone, strides=STRIDES, test=SETTINGS["predA"])
        assert torch.equal(found.class_ids, expected.class_ids)
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-6, rtol=0)


def test_only_wanted_classes_are_found(output: DecoupledOutput) -> None:
    found = detect(output, strides=STRIDES, test=SETTINGS["predA"], class_ids=[1])[0]
    assert len(found.scores) > 0
    assert set(found.class_ids.tolist()) == {1}


def test_the_best_candidates_survive_the_limit(output: DecoupledOutput) -> None:
    few = SETTINGS["predA"].model_copy(update={"max_candidates": 5})
    everything = detect(output, strides=STRIDES, test=SETTINGS["predA"])[0]
    limited = detect(output, strides=STRIDES, test=few)[0]
    assert 0 < len(limited.scores) <= 5 < len(everything.scores)
