"""What post-processing asks of a device: few launches, two waits, little memory, and the same result."""

import json
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from streamseg.inference import Segmenter
from streamseg.inference.collect import collect_edges
from streamseg.inference.tickets import BatchTicket
from streamseg.models.nets.flat import batch_tensors, with_tensors
from streamseg.models.nets.head import HeadOutput
from streamseg.models.postprocess import blocks as module
from streamseg.models.spec import InputSpec
from tests.support.batches import segment_batch
from tests.support.lively import VARIANTS, make_detector

BATCH = 8
PICTURES = [np.random.default_rng(k).integers(0, 256, (120, 160, 3), dtype=np.uint8) for k in range(BATCH)]
LAUNCHES = 120
WAITS = 2
# These compute nothing: another view of a tensor, or memory to write to.
_FREE = {
    *("view", "slice", "select", "permute", "transpose", "unsqueeze", "expand", "split", "split_with_sizes"),
    *("squeeze", "t", "detach", "alias", "diagonal", "unbind", "_unsafe_view", "as_strided", "empty"),
    *("flatten", "unflatten", "mT", "empty_like", "lift_fresh"),
}
ROOT = Path(__file__).resolve().parents[2]


class Dispatches(TorchDispatchMode):
    """Counts what is dispatched to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func).split(".")[1]] += 1
        return func(*args, **(kwargs or {}))

    @property
    def launches(self) -> int:
        return sum(n for name, n in self.counts.items() if name not in _FREE)

    @property
    def reads(self) -> int:
        """Numbers that the host asks the device for one by one, and lists of unknown length."""
        return sum(
            self.counts[name] for name in ("_local_scalar_dense", "nonzero", "masked_select", "unique")
        )


def load(variant: str, device: str = "cpu") -> Segmenter:
    detector = make_detector(**VARIANTS[variant])
    detector.spec = detector.spec.model_copy(update={"input": InputSpec(long_side=160, short_side=128)})
    return Segmenter(detector, name="small", device=device, precision="fp32", score=0.1)


def batch_of(segmenter: Segmenter) -> BatchTicket:
    ticket = segmenter.submit(PICTURES)
    assert ticket.computing is not None
    ends = ticket.computing.result().candidates.ends
    assert len(ends) == BATCH
    assert ends[:, -1].min() > 3
    return ticket


def count(segmenter: Segmenter, pictures: list[NDArray[np.uint8]]) -> Dispatches:
    """All that comes behind the network."""
    launched = segmenter.submit(pictures).computing
    assert launched is not None
    computing = launched.result()
    postprocessor = segmenter._postprocessor
    with torch.no_grad(), Dispatches() as dispatches:
        candidates = postprocessor.select(computing.output)
        ((_, ranked),) = postprocessor.rank(computing.output, candidates)
        # Behind this one only the results are waited for, which cross in one buffer.
        assert dispatches.reads == 1, "how many candidates there are"
        good = postprocessor.good(ranked)
    assert sum(good.counts) > len(pictures)
    return dispatches


@pytest.mark.parametrize("variant", VARIANTS)
def test_launches_and_waits_do_not_grow_with_the_batch(variant: str) -> None:
    segmenter = load(variant)
    assert count(segmenter, PICTURES).launches <= LAUNCHES
    one, many = (count(segmenter, PICTURES[:1] * n).launches for n in (1, BATCH))
    assert many <= one + 5  # a copy of what is contiguous by itself in a batch of one


def full_size(variant: str, *, score: float) -> tuple[Segmenter, HeadOutput]:
    """A batch of 800x1344, as the published models see pictures: one picture, eight times."""
    detector = make_detector(**VARIANTS[variant])
    detector.spec = detector.spec.model_copy(update={"input": InputSpec(long_side=1344, short_side=800)})
    segmenter = Segmenter(detector, name="large", device="cpu", precision="fp32", score=score)
    picture = np.random.default_rng(0).integers(0, 256, (800, 1344, 3), dtype=np.uint8)
    launched = segmenter.submit([picture]).computing
    assert launched is not None
    output = launched.result().output
    many = [x.expand(BATCH, *x.shape[1:]).contiguous() for x in batch_tensors(output)]
    return segmenter, with_tensors(output, many)


@pytest.mark.parametrize("blocks", ["cpu", "cuda"])
@pytest.mark.parametrize("variant", ["solo", "decoupled", "solov2"])
def test_launches_of_a_batch_of_full_size(variant: str, blocks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the blocks of a CPU with 19 to 38 candidates a picture, in those of a GPU with over a hundred."""
    for table in (module._BLOCK, module._HELD):
        monkeypatch.setitem(table, "cpu", table[blocks])
    segmenter, output = full_size(variant, score=0.5 if blocks == "cpu" else 0.1)
    postprocessor = segmenter._postprocessor
    with torch.inference_mode(), Dispatches() as dispatches:
        candidates = postprocessor.select(output)
        ((_, ranked),) = postprocessor.rank(output, candidates)
        postprocessor.good(ranked)
    assert candidates.used().cells.shape[1] > (15 if blocks == "cpu" else 100)
    assert dispatches.launches <= LAUNCHES


@pytest.mark.cuda
@pytest.mark.parametrize("variant", VARIANTS)
def test_launches_and_waits_on_a_gpu(variant: str) -> None:
    segmenter = load(variant, "cuda")
    for _ in range(2):
        segmenter.wait(batch_of(segmenter))
    ticket = batch_of(segmenter)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        segmenter.wait(ticket)
    calls = Counter({event.key: event.count for event in profiled.key_averages()})
    launches = sum(n for name, n in calls.items() if "LaunchKernel" in name)
    waits = sum(calls[f"cuda{what}Synchronize"] for what in ("Stream", "Event", "Device"))
    # With run lengths at source resolution; the network and the stream's end are waited for besides.
    assert launches <= 2 * LAUNCHES
    assert waits <= WAITS + 2


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_run_lengths_of_the_device_make_the_same_instances(variant: str, device: str) -> None:
    segmenter = load(variant, device)
    expected = segment_batch(load(variant), PICTURES)
    segmenter._collect = partial(collect_edges, threshold=segmenter.spec.test.mask_threshold)
    found = segment_batch(segmenter, PICTURES)
    assert sum(map(len, found)) > BATCH
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.labels == theirs.labels
        if device == "cpu":  # elsewhere the network itself rounds in another way
            assert ours.run_lengths == theirs.run_lengths
            np.testing.assert_array_equal(ours.boxes, theirs.boxes)
            np.testing.assert_array_equal(ours.masks(), theirs.masks())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_whose_masks_take_too_much_memory_goes_in_parts(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter = load(variant)
    expected = segment_batch(segmenter, PICTURES)
    monkeypatch.setattr("streamseg.models.postprocess.blocks._HELD", {"cpu": 1})
    monkeypatch.setattr("streamseg.models.postprocess.blocks._BLOCK", {"cpu": 1})
    for ours, theirs in zip(segment_batch(segmenter, PICTURES), expected, strict=True):
        assert ours.labels == theirs.labels
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
        np.testing.assert_array_equal(ours.boxes, theirs.boxes)


@pytest.mark.parametrize(
    "model",
    ["decoupled_solo_r50", *(pytest.param(m, marks=pytest.mark.soak) for m in ("solo_r50", "solov2_r50"))],
)
def test_peak_memory_of_many_candidates(model: str) -> None:
    command = [sys.executable, "benchmarks/memory.py", "--one", model, "80"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    measured = json.loads(done.stdout)
    assert measured["instances"] == 100
    assert measured["within_limit"], measured
