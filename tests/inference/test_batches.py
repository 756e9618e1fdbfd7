"""Pictures in a batch give what they give alone; pictures of different size share the largest canvas."""

import numpy as np
import pytest
import torch

from streamseg.inference import Segmenter
from streamseg.models.nets.detector import Detector
from streamseg.models.spec import Architecture, InputSpec, TestSpec
from streamseg.types import Instances
from tests.support.batches import segment_batch
from tests.support.tiny import ARCHITECTURES, tiny_spec


def segmenter_of(architecture: Architecture) -> Segmenter:
    torch.manual_seed(3)
    spec = tiny_spec(architecture).model_copy(
        update={
            "input": InputSpec(long_side=128, short_side=96),
            # Untrained: every cell is at 0.01, and the masks too.
            "test": TestSpec(score_threshold=0.0, mask_threshold=0.0, filter_threshold=0.0),
        }
    )
    return Segmenter(Detector(spec), name="tiny", device="cpu", precision="fp32", score=0.0)


def picture(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)


def assert_same(ours: Instances, expected: Instances) -> None:
    assert len(ours) == len(expected) > 0
    assert ours.labels == expected.labels
    np.testing.assert_allclose(ours.scores, expected.scores, atol=1e-4)
    np.testing.assert_array_equal(ours.boxes, expected.boxes)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_picture_in_a_batch_gives_what_it_gives_alone(architecture: Architecture) -> None:
    segmenter = segmenter_of(architecture)
    pictures = [picture(90, 120, seed) for seed in range(3)]
    together = segment_batch(segmenter, pictures)
    for one, found in zip(pictures, together, strict=True):
        assert_same(found, segmenter(one))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pictures_of_different_size_are_padded_to_the_largest(architecture: Architecture) -> None:
    """As the published code pads a batch: zeros after normalisation, on the right and below."""
    segmenter = segmenter_of(architecture)
    wide, tall = picture(48, 128, 1), picture(128, 80, 2)
    assert segmenter.canvas(48, 128) == (64, 128)
    assert segmenter.canvas(128, 80) == (128, 96)
    ticket = segmenter.submit([wide, tall])
    assert [sizes.canvas for sizes in ticket.sizes] == [(128, 128)] * 2
    assert ticket.computing is not None
    output = ticket.computing.result().output
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (segmenter.spec.input.mean, segmenter.spec.input.std))
    images = torch.zeros(2, 3, 128, 128)
    for image, pixels in zip(images, (wide, tall), strict=True):
        height, width = pixels.shape[:2]
        image[:, :height, :width] = (torch.from_numpy(pixels).permute(2, 0, 1).float() - mean) / std
    detector = Detector(segmenter.spec).eval()
    detector.load_state_dict(segmenter._detector.state_dict())
    with torch.no_grad():
        expected = detector(images)
    for ours, theirs in zip(output.class_logits, expected.class_logits, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    for ours, theirs in zip(output.mask_tensors(), expected.mask_tensors(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    segmenter.wait(ticket)
    for k, pixels in enumerate((wide, tall)):
        found = segmenter.finish(ticket, k)
        assert (found.height, found.width) == pixels.shape[:2]
