"""Half precision finds what fp32 finds.

Tolerances, on frames of the demo clip with the bundled weights: of the instances that score 0.35 or
more in fp32, in bf16 at least 90 % have a partner of their class whose mask overlaps theirs by 0.85
(IoU) and whose score differs by at most 0.05; in fp16 at least 95 % have one with 0.98 and 0.01.
Measured on 20 frames (103 instances): in bf16 99 % at 0.9 and 0.05, in fp16 100 % at 0.99 and 0.004.
"""

from itertools import islice

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamseg.inference import Segmenter
from streamseg.models.nets.windowed import WindowedOutput
from streamseg.types import Instances
from tests.support.detect import detect
from tests.support.lively import VARIANTS, make_detector
from tests.support.program import STREET

# (share of the instances, IoU, difference of the scores)
TOLERANCES = {torch.bfloat16: (0.9, 0.85, 0.05), torch.float16: (0.95, 0.98, 0.01)}
CLEAR = 0.35
FAINT = 0.2


@pytest.fixture(scope="module")
def frames() -> list[NDArray[np.uint8]]:
    with av.open(str(STREET)) as container:
        decoded = islice(container.decode(video=0), 0, None, 50)
        return [frame.to_ndarray(format="rgb24") for frame in decoded]


@pytest.fixture(scope="module")
def exact(frames: list[NDArray[np.uint8]]) -> list[Instances]:
    segmenter = Segmenter.load("demo", device="cpu", precision="fp32", score=CLEAR)
    return [segmenter(frame) for frame in frames]


def load(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> Segmenter:
    """The bundled weights in ``dtype``, which the program would not choose on a CPU for its slowness."""
    monkeypatch.setattr("streamseg.inference.runtimes.choice.choose_precision", lambda *_: dtype)
    return Segmenter.load("demo", device="cpu", runtime="torch", score=FAINT)


def skip_unless_computed(dtype: torch.dtype) -> None:
    try:
        torch.nn.functional.conv2d(torch.ones(1, 1, 3, 3, dtype=dtype), torch.ones(1, 1, 3, 3, dtype=dtype))
    except RuntimeError as error:
        pytest.skip(f"torch has no {dtype} convolution on this CPU: {error}")


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
def test_half_precision_finds_the_same_instances(
    dtype: torch.dtype,
    frames: list[NDArray[np.uint8]],
    exact: list[Instances],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    skip_unless_computed(dtype)
    segmenter = load(dtype, monkeypatch)
    share, overlap, difference = TOLERANCES[dtype]
    found = [
        has_partner(expected, k, mine, overlap=overlap, difference=difference)
        for frame, expected in zip(frames, exact, strict=True)
        for mine in [segmenter(frame)]
        for k in range(len(expected))
    ]
    assert len(found) >= 10
    assert np.mean(found) >= share


def has_partner(expected: Instances, k: int, found: Instances, *, overlap: float, difference: float) -> bool:
    mask = expected.masks()[k]
    return any(
        class_id == expected.class_ids[k]
        and abs(score - expected.scores[k]) <= difference
        and (mask & other).sum() >= overlap * (mask | other).sum()
        for class_id, score, other in zip(found.class_ids, found.scores, found.masks(), strict=True)
    )


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_architecture_stays_finite(variant: str, dtype: torch.dtype) -> None:
    skip_unless_computed(dtype)
    detector = make_detector(**VARIANTS[variant]).to(dtype)
    torch.manual_seed(0)
    with torch.no_grad():
        output = detector(torch.randn(2, 3, 128, 160).to(dtype))
        for tensor in (*output.class_logits, *output.mask_tensors()):
            # Windows are measured in pixels, which half precision would round.
            exact = isinstance(output, WindowedOutput) and any(tensor is x for x in output.windows)
            assert tensor.dtype == (torch.float32 if exact else dtype)
            assert tensor.isfinite().all()
        for found in detect(detector, output):
            assert len(found.scores) > 0
            assert found.scores.isfinite().all()
            assert found.soft_masks.isfinite().all()
