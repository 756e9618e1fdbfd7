"""Whether masks of different classes suppress one another."""

from typing import Literal

import pytest
import torch

from streamseg.errors import ConfigError
from streamseg.inference import Segmenter
from streamseg.models.postprocess.maskness import measure
from streamseg.models.postprocess.matrix_nms import matrix_nms
from tests.support.program import ROOT


def decayed(overlap: Literal["class", "any"]) -> list[float]:
    """A bus, the same pixels as a truck, and a person elsewhere."""
    masks = torch.zeros(3, 8, 8)
    masks[:2, :4], masks[2, 6:] = 1, 1
    shared = measure(masks[None], 0.5)[0][0]
    scores = torch.tensor([0.9, 0.8, 0.7])
    found = matrix_nms(
        shared,
        torch.tensor([4, 5, 0]),
        scores,
        kernel="gaussian",
        sigma=2.0,
        overlap=overlap,
    )
    return found.tolist()


def test_as_in_the_papers_only_those_of_one_class_do() -> None:
    assert decayed("class") == pytest.approx([0.9, 0.8, 0.7])


def test_an_object_gets_one_label_if_all_do() -> None:
    bus, truck, person = decayed("any")
    assert (bus, person) == pytest.approx((0.9, 0.7))
    assert truck == pytest.approx(0.8 * torch.tensor(-2.0).exp().item())


@pytest.mark.parametrize("kernel", ["gaussian", "linear"])
@pytest.mark.parametrize("overlap", ["class", "any"])
def test_a_batch_is_decayed_as_its_pictures_alone(
    overlap: Literal["class", "any"], kernel: Literal["gaussian", "linear"]
) -> None:
    generator = torch.Generator().manual_seed(2)
    masks = torch.rand(3, 9, 8, 8, generator=generator)
    shared, _ = measure(masks, 0.4)
    class_ids = torch.randint(2, (3, 9), generator=generator)
    scores = torch.rand(3, 9, generator=generator).sort(descending=True).values
    batch = matrix_nms(shared, class_ids, scores, kernel=kernel, sigma=2.0, overlap=overlap)
    assert (batch < scores)[:, 1:].any()
    for found, *picture in zip(batch, shared, class_ids, scores, strict=True):
        torch.testing.assert_close(found, matrix_nms(*picture, kernel=kernel, sigma=2.0, overlap=overlap))


def test_who_loads_weights_may_say_otherwise() -> None:
    picture = ROOT / "samples" / "street.jpg"
    found = {
        overlap: Segmenter.load("demo", runtime="torch", score=0.1, overlap=overlap)(picture).scores
        for overlap in (None, "any", "class")
    }
    assert found[None] == pytest.approx(found["any"], abs=1e-3), "as the bundled weights are made for"
    assert len(found["class"]) > len(found["any"]), "the van is a bus and a truck, too"
    with pytest.raises(ConfigError, match="overlap: Input should be 'class' or 'any'"):
        Segmenter.load("demo", overlap="all")
