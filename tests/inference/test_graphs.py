"""CUDA graphs: sizes, padding, and on a card that they give what the network gives."""

import logging

import pytest
import torch

from streamseg.inference.runtimes.graphs import SIZES, GraphedNetwork, first_pictures, graph_size
from streamseg.inference.runtimes.torch_network import TorchNetwork
from streamseg.models.nets.detector import Detector
from streamseg.models.nets.flat import batch_tensors, with_tensors
from streamseg.models.nets.folded import folded_copy
from tests.support.lively import VARIANTS, make_detector
from tests.support.tiny import ARCHITECTURES, tiny_spec

NEEDS_CARD = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")


def test_a_batch_goes_into_the_next_size() -> None:
    assert [graph_size(count) for count in (1, 2, 3, 4, 5, 8, 9, 32, 33)] == [1, 2, 4, 4, 8, 8, 16, 32, None]
    for count in range(1, SIZES[-1] + 1):
        size = graph_size(count)
        assert size is not None
        assert count <= size < 2 * count or size == count, "less than half a batch is padding"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.inference_mode()
def test_the_padding_is_taken_off_again(architecture: str) -> None:
    torch.manual_seed(0)
    detector = Detector(tiny_spec(architecture)).eval()  # type: ignore[arg-type]
    images = torch.randn(4, 3, 64, 96)
    padded = detector(images)
    ours = first_pictures(padded, 3)
    assert type(ours) is type(padded)
    for mine, whole in zip(batch_tensors(ours), batch_tensors(padded), strict=True):
        assert torch.equal(mine, whole[:3])
        assert mine.untyped_storage().data_ptr() != whole.untyped_storage().data_ptr(), "a copy"
    assert ours.mask_size == padded.mask_size


@torch.inference_mode()
def test_an_output_is_put_together_from_its_tensors() -> None:
    for options in VARIANTS.values():
        output = make_detector(**options)(torch.randn(1, 3, 128, 128))
        again = with_tensors(output, batch_tensors(output))
        assert again == output or all(
            a is b for a, b in zip(batch_tensors(again), batch_tensors(output), strict=True)
        )
        assert len(again.mask_tensors()) == len(output.mask_tensors())


def graphed(detector: Detector, dtype: torch.dtype) -> tuple[GraphedNetwork, TorchNetwork]:
    device = torch.device("cuda")
    plain = TorchNetwork(folded_copy(detector), device=device, dtype=dtype)
    return GraphedNetwork(plain, device=device), plain


@pytest.mark.cuda
@NEEDS_CARD
@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_graphs_give_what_the_network_gives(variant: str, caplog: pytest.LogCaptureFixture) -> None:
    graphs, plain = graphed(make_detector(**VARIANTS[variant]), torch.float16)
    with torch.cuda.stream(torch.cuda.Stream()):
        for count in (3, 1, 4, 3):
            images = torch.randn(count, 3, 128, 160, device="cuda", dtype=torch.float16)
            images = images.contiguous(memory_format=torch.channels_last)
            for ours, expected in zip(
                batch_tensors(graphs(images)), batch_tensors(plain(images)), strict=True
            ):
                torch.testing.assert_close(ours, expected, rtol=2e-2, atol=2e-2)
    assert not caplog.records, "nothing fell back"


@pytest.mark.cuda
@NEEDS_CARD
@torch.inference_mode()
def test_a_later_batch_does_not_change_an_output() -> None:
    graphs, _ = graphed(make_detector(**next(iter(VARIANTS.values()))), torch.float32)
    with torch.cuda.stream(torch.cuda.Stream()):
        first = graphs(torch.randn(2, 3, 128, 160, device="cuda"))
        before = [tensor.clone() for tensor in batch_tensors(first)]
        graphs(torch.randn(2, 3, 128, 160, device="cuda"))
    torch.cuda.synchronize()
    for mine, old in zip(batch_tensors(first), before, strict=True):
        assert torch.equal(mine, old)


@pytest.mark.cuda
@NEEDS_CARD
@torch.inference_mode()
def test_what_cannot_be_recorded_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    graphs, plain = graphed(make_detector(**next(iter(VARIANTS.values()))), torch.float32)
    plain._detector.register_forward_hook(lambda *_: torch.cuda.synchronize())
    images = torch.randn(2, 3, 128, 160, device="cuda")
    with torch.cuda.stream(torch.cuda.Stream()):
        for _ in range(2):
            for ours, expected in zip(
                batch_tensors(graphs(images)), batch_tensors(plain(images)), strict=True
            ):
                torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
    assert len(caplog.records) == 1
    assert "without CUDA graphs from now on" in caplog.text
