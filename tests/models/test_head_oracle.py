"""Every head equals the reference: raw outputs, candidates, and instances in every setting."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from streamseg.masks.upsample import Geometry
from streamseg.models.nets.decoupled import DecoupledOutput
from streamseg.models.nets.detector import Head, build_head
from streamseg.models.nets.head import HeadOutput, candidate_masks
from streamseg.models.nets.layers import resize
from streamseg.models.nets.solo import SoloOutput
from streamseg.models.nets.solov2 import SoloV2Output
from streamseg.models.postprocess.candidates import (
    flat_cells,
    make_grids,
    points_nms,
    select_candidates,
)
from streamseg.models.postprocess.detections import Postprocessor
from streamseg.models.spec import TestSpec
from tests.support.detect import Found, found_by
from tests.support.enlarge import enlarge
from tests.support.oracle import Oracle, names_of, thinned
from tests.support.tiny import SETTINGS, STRIDES

_STORED_SIZES = {"img0": ((120, 150), (140, 175)), "img1": ((128, 160), (97, 121))}
"""img_shape and ori_shape of the two tiny images, for files that do not repeat them."""

_OF_AUTHORS = {"ins": "mask", "ins_x": "mask_x", "ins_y": "mask_y", "cate": "cls", "mask_feat": "maskfeat"}
"""The authors' words for the maps."""


@pytest.fixture(scope="module", params=names_of("head"))
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return Oracle(request.param)


def load_head(oracle: Oracle) -> Head:
    architecture, spec, deformable = oracle.head
    tensors = oracle.head_tensors()
    classes = len(tensors["class_output.bias"])
    head = build_head(architecture, spec, inputs=16, classes=classes, deformable=deformable)
    head.load_state_dict(tensors)
    return head


@pytest.fixture(scope="module")
def output(oracle: Oracle) -> HeadOutput:
    with torch.no_grad():
        result: HeadOutput = load_head(oracle)(oracle.tensors("feats"))
    return result


def raw_maps(output: HeadOutput, *, trained: bool) -> dict[str, list[Tensor]]:
    """Our maps under the names of the files: logits, or what the reference makes of them in a test."""
    if isinstance(output, SoloV2Output):
        return {
            "kernel": output.kernels,
            "cls": output.class_logits,
            "maskfeat": [output.mask_feature],
        }
    size = None if trained else output.mask_size
    classes = output.class_logits if trained else [peaks(x.sigmoid()) for x in output.class_logits]
    if isinstance(output, DecoupledOutput):
        masks = {"mask_x": output.mask_x, "mask_y": output.mask_y}
        if size is not None:
            for name, maps in masks.items():
                masks[name] = [
                    torch.nn.functional.interpolate(m.sigmoid(), size=size, mode="bilinear") for m in maps
                ]
        return masks | {"cls": classes}
    assert isinstance(output, SoloOutput)
    return {"mask": _all_masks(output, size), "cls": classes}


def peaks(scores: Tensor) -> Tensor:
    """Points NMS of one level, (B, C, S, S)."""
    size = scores.shape[-1]
    kept = points_nms(flat_cells([scores]), make_grids([size]).neighbours)
    return kept.mT.unflatten(2, (size, size))


def detect(output: HeadOutput, *, test: TestSpec, class_ids: Sequence[int] | None = None) -> list[Found]:
    grids = [logits.shape[-1] for logits in output.class_logits]
    cpu = torch.device("cpu")
    return found_by(
        Postprocessor(grids=grids, strides=STRIDES, test=test, device=cpu, class_ids=class_ids), output
    )


def _all_masks(output: SoloOutput, size: tuple[int, int] | None) -> list[Tensor]:
    """Soft masks (B, S * S, h, w) of every cell."""
    masks = []
    for level, logits in enumerate(output.class_logits):
        cells = torch.cartesian_prod(*[torch.arange(logits.shape[-1])] * 2)
        images = [output.soft_masks(level, image, cells[:, 0], cells[:, 1]) for image in range(len(logits))]
        soft = torch.stack(images)
        masks.append(soft if size is None else resize(soft, size))
    return masks


@pytest.mark.parametrize("mode", ["train_raw", "eval_raw"])
def test_oracle_raw_outputs(oracle: Oracle, output: HeadOutput, mode: str) -> None:
    stored = {key.split("/")[1] for key in oracle.keys(f"{mode}/")}  # some files hold one mode only
    ours = raw_maps(output, trained=mode == "train_raw")
    for stored_name in sorted(stored):
        name = _OF_AUTHORS.get(stored_name, stored_name.removesuffix("_sample"))
        expected = [oracle.tensor(k) for k in sorted(oracle.keys(f"{mode}/{stored_name}"))]
        as_soft = mode == "train_raw" and name == "mask"
        # A step of 1e-5 in a logit is at most 2.5e-6 in the probability.
        atol = 2.5e-6 if as_soft else 1e-5
        for mine, theirs in zip(thinned(ours[name], expected), expected, strict=True):
            wanted = theirs.sigmoid() if as_soft else theirs
            torch.testing.assert_close(mine, wanted, atol=atol, rtol=0)


def test_oracle_candidates(oracle: Oracle, output: HeadOutput) -> None:
    """What enters Matrix NMS: classes, scores with maskness, and areas, in the reference's order."""
    prefixes = sorted({key.split("/nms_in/")[0] for key in oracle.keys("pred") if "/nms_in/" in key})
    for prefix in prefixes:
        setting, image = prefix.split("/")
        test, index = SETTINGS[setting], int(image.removeprefix("img"))
        grids = make_grids([logits.shape[-1] for logits in output.class_logits])
        candidates = select_candidates(
            output.class_logits, grids, threshold=test.score_threshold, limit=test.max_candidates
        ).used()
        soft = candidate_masks(output, candidates)[index]
        inside = soft > test.mask_threshold
        area = inside.sum(dim=(1, 2))
        strides = torch.tensor(STRIDES)[grids.levels[candidates.cells[index]]]
        kept = (area > strides) & (candidates.scores[index] > 0)
        scores = candidates.scores[index] * (soft * inside).sum(dim=(1, 2)) / area.clamp(min=1)
        assert candidates.class_ids[index][kept].tolist() == oracle.array(f"{prefix}/nms_in/labels").tolist()
        torch.testing.assert_close(scores[kept], oracle.tensor(f"{prefix}/nms_in/scores"), atol=2e-4, rtol=0)
        torch.testing.assert_close(
            area[kept].float(), oracle.tensor(f"{prefix}/nms_in/area").float(), atol=3, rtol=0
        )


@pytest.mark.parametrize("setting", SETTINGS)
def test_oracle_instances(oracle: Oracle, output: HeadOutput, setting: str) -> None:
    images = sorted({key.split("/")[1] for key in oracle.keys(f"{setting}/")})  # not in every file
    found = detect(output, test=SETTINGS[setting])
    for image in images:
        prefix, mine = f"{setting}/{image}", found[int(image.removeprefix("img"))]
        assert mine.class_ids.tolist() == oracle.array(f"{prefix}/labels").astype(int).tolist()
        torch.testing.assert_close(mine.scores, oracle.tensor(f"{prefix}/scores"), atol=2e-4, rtol=0)
        if setting == "predEmpty":
            assert len(mine.scores) == 0
        else:
            assert_masks_equal(oracle, prefix, mine, mask_threshold=SETTINGS[setting].mask_threshold)


def assert_masks_equal(oracle: Oracle, prefix: str, found: Found, *, mask_threshold: float) -> None:
    resized, source = _STORED_SIZES[prefix.split("/")[1]]
    if f"{prefix}/img_shape" in oracle:
        resized, source = oracle.size(f"{prefix}/img_shape"), oracle.size(f"{prefix}/ori_shape")
    p2 = oracle.tensor("feats/0")
    geometry = Geometry(source, resized, (4 * p2.shape[-2], 4 * p2.shape[-1]))
    boxes, crops = enlarge(found.soft_masks.numpy(), geometry, threshold=mask_threshold)
    ours = np.zeros((len(crops), *source), dtype=bool)
    for mask, (x1, y1, x2, y2), crop in zip(ours, boxes, crops, strict=True):
        mask[y1:y2, x1:x2] = crop
    different = ours != oracle.array(f"{prefix}/masks")
    if f"{prefix}/masks_uncertain" in oracle:
        uncertain = oracle.array(f"{prefix}/masks_uncertain").reshape(different.shape)
        assert not (different & ~uncertain).any()
    else:  # the other files have 50 to 130 pixels within 2e-5 of the threshold
        assert different.sum() <= 200


def test_batched_equals_single(oracle: Oracle) -> None:
    head = load_head(oracle)
    features = [torch.cat((x, x.flip(-1))) for x in oracle.tensors("feats")]
    with torch.no_grad():
        together = head(features)
        found_together = detect(together, test=SETTINGS["predA"])
        for image, expected in enumerate(found_together):
            alone = head([x[image : image + 1] for x in features])
            for mine, all_images in zip(_maps(alone), _maps(together), strict=True):
                torch.testing.assert_close(mine[0], all_images[image], atol=1e-4, rtol=0)
            # The same post-processing of the same numbers: what follows thresholds would jump otherwise.
            (found,) = detect(together.pictures(slice(image, image + 1)), test=SETTINGS["predA"])
            assert torch.equal(found.class_ids, expected.class_ids)
            torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)
            torch.testing.assert_close(found.soft_masks, expected.soft_masks, atol=1e-4, rtol=0)


def _maps(output: HeadOutput) -> list[Tensor]:
    """Everything that a head says of each image."""
    batch = len(output.class_logits[0])
    masks = [t for t in output.mask_tensors() if t.ndim == 4 and not isinstance(t, torch.nn.Parameter)]
    return [t for t in (*output.class_logits, *masks) if len(t) == batch]


def test_only_wanted_classes_are_found(oracle: Oracle, output: HeadOutput) -> None:
    found = detect(output, test=SETTINGS["predA"], class_ids=[1])[0]
    assert len(found.scores) > 0
    assert set(found.class_ids.tolist()) == {1}


def test_the_best_candidates_survive_the_limit(oracle: Oracle, output: HeadOutput) -> None:
    few = SETTINGS["predA"].model_copy(update={"max_candidates": 5})
    everything = detect(output, test=SETTINGS["predA"])[0]
    limited = detect(output, test=few)[0]
    assert 0 < len(limited.scores) <= 5 < len(everything.scores)
