"""A whole detector equals the reference, from the picture to the instances."""

import numpy as np
import pytest
import torch

from streamseg.inference import Segmenter
from streamseg.inference.preprocess import Normaliser, geometry
from streamseg.models.detector import Detector
from streamseg.models.spec import InputSpec
from tests.models.tiny import detector_spec
from tests.oracle import Oracle, detector_state


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle("mmdet_e2e_decoupled")


@pytest.fixture(scope="module")
def detector(oracle: Oracle) -> Detector:
    spec = detector_spec().model_copy(update={"input": InputSpec(long_side=200, short_side=128)})
    detector = Detector(spec)
    detector.load_state_dict(detector_state(oracle.state_dict()))
    return detector.eval()


def test_oracle_network_input(oracle: Oracle, detector: Detector) -> None:
    resized = oracle.array("infer0/resized_bgr_u8")[..., ::-1].copy()
    sizes = geometry(*oracle.array("infer0/image_bgr_u8").shape[:2], detector.spec.input)
    assert sizes.resized == resized.shape[:2]
    normalise = Normaliser(detector.spec.input, device=torch.device("cpu"), dtype=torch.float32)
    images = normalise(torch.from_numpy(resized)[None], [sizes.resized], sizes.canvas)
    torch.testing.assert_close(
        images, oracle.tensor("infer0/net_input")[:1].reshape(images.shape), atol=1e-5, rtol=0
    )


def test_oracle_pyramid(oracle: Oracle, detector: Detector) -> None:
    images = oracle.tensor("infer0/net_input").reshape(1, 3, 128, -1)
    with torch.no_grad():
        pyramid = detector.neck(detector.backbone(images))
    for ours, expected in zip(pyramid, oracle.tensors("infer0/P"), strict=True):
        torch.testing.assert_close(ours, expected.reshape(ours.shape), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("image", [0, 1])
def test_oracle_instances(oracle: Oracle, detector: Detector, image: int) -> None:
    prefix = f"infer{image}"
    segmenter = Segmenter(detector, name="tiny", device="cpu", precision="fp32", score=0.0)
    picture = oracle.array(f"{prefix}/image_bgr_u8")[..., ::-1].copy()
    found = segmenter(picture)
    expected_scores, expected_masks = oracle.array(f"{prefix}/scores"), oracle.array(f"{prefix}/masks")
    # The reference keeps instances whose mask vanishes at source size, with an empty mask.
    visible = expected_masks.any(axis=(1, 2))
    assert found.class_ids.tolist() == oracle.array(f"{prefix}/labels")[visible].astype(int).tolist()
    np.testing.assert_allclose(found.scores, expected_scores[visible], atol=2e-4)
    certain = ~oracle.array(f"{prefix}/masks_uncertain").reshape(expected_masks.shape)[visible]
    assert ((found.masks() == expected_masks[visible]) | ~certain).all()


def test_boxes_are_tight(oracle: Oracle, detector: Detector) -> None:
    segmenter = Segmenter(detector, name="tiny", device="cpu", precision="fp32", score=0.0)
    found = segmenter(oracle.array("infer0/image_bgr_u8")[..., ::-1].copy())
    assert len(found) > 0
    for mask, (x1, y1, x2, y2) in zip(found.masks(), found.boxes, strict=True):
        ys, xs = np.nonzero(mask)
        assert (x1, y1, x2, y2) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
