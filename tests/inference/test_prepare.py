"""From pictures to the network's input, on the host and on the device."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamseg.inference.prepare import DevicePreparer, HostPreparer, resize_batch
from streamseg.masks.upsample import Geometry
from streamseg.models.input_size import resize_picture
from streamseg.models.spec import InputSpec

SPEC = InputSpec(mean=(10, 20, 30), std=(1, 2, 3))
CPU = torch.device("cpu")
NEEDS_CUDA = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)]

Prepare = Callable[[Sequence[NDArray[np.uint8]], Sequence[Geometry]], Tensor]


def on_host(dtype: torch.dtype = torch.float32, spec: InputSpec = SPEC) -> Prepare:
    return prepare_with(HostPreparer(spec, dtype=dtype))


def on_device(dtype: torch.dtype = torch.float32, spec: InputSpec = SPEC, device: str = "cpu") -> Prepare:
    return prepare_with(DevicePreparer(spec, device=torch.device(device), dtype=dtype))


def prepare_with(preparer: HostPreparer | DevicePreparer) -> Prepare:
    def prepare(pictures: Sequence[NDArray[np.uint8]], sizes: Sequence[Geometry]) -> Tensor:
        preparation = preparer.start(pictures, sizes)
        assert preparation.wait() >= 0
        return preparation.build()

    return prepare


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("prepare", [on_host(), on_device()], ids=["host", "device"])
def test_padding_is_zero_after_normalisation(prepare: Prepare) -> None:
    white = np.full((2, 3, 3), 40, dtype=np.uint8)
    small = np.full((1, 2, 3), 40, dtype=np.uint8)
    images = prepare([white, small], [Geometry((2, 3), (2, 3), (4, 5)), Geometry((1, 2), (1, 2), (4, 5))])
    assert images.shape == (2, 3, 4, 5)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images[0, :, 0, 0].tolist() == pytest.approx([30, 10, 10 / 3])
    assert images[0, :, 2:].abs().sum() == 0
    assert images[0, :, :, 3:].abs().sum() == 0
    assert images[1, :, :1, :2].abs().min() > 0
    assert images[1].abs().sum() == images[1, :, :1, :2].abs().sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("where", [on_host, on_device])
def test_every_grey_level_is_normalised_as_the_formula_says(
    where: Callable[..., Prepare], dtype: torch.dtype
) -> None:
    spec = InputSpec()
    picture = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=2)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (spec.mean, spec.std))
    size = Geometry((16, 16), (16, 16), (16, 16))
    images = where(dtype, spec)([picture], [size])
    expected = (torch.from_numpy(picture).permute(2, 0, 1).float() - mean) * (1 / std)
    assert images.dtype == dtype
    assert torch.equal(images[0], expected.to(dtype))


SIZES = [
    ((576, 768), (352, 469)),
    ((1080, 1920), (270, 480)),
    ((720, 1280), (360, 640)),  # exactly half: OpenCV takes means of four pixels
    ((120, 160), (360, 480)),
    ((97, 1), (352, 4)),
    ((3, 500), (1, 167)),
    ((301, 299), (300, 300)),
    ((64, 96), (64, 96)),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("source", "size"), SIZES)
def test_the_device_resizes_as_the_host_but_for_a_grey_level(
    source: tuple[int, int], size: tuple[int, int], device: str
) -> None:
    pictures = [noise(*source, seed) for seed in range(2)]
    resized = resize_batch(torch.from_numpy(np.stack(pictures)).to(device), size).cpu()
    assert torch.equal(resized, resized.round())
    for ours, picture in zip(resized.permute(0, 2, 3, 1).numpy(), pictures, strict=True):
        difference = np.abs(ours - resize_picture(picture, size))
        assert difference.max() <= 1
        assert difference.mean() < 0.2, "of noise: photographs differ in fewer pixels"


@pytest.mark.parametrize("device", DEVICES)
def test_a_batch_of_sizes_is_prepared_on_the_device_as_on_the_host(device: str) -> None:
    """Each picture is where it belongs, whatever the others' sizes are."""
    sources = [(120, 160), (90, 120), (120, 160), (60, 200)]
    pictures = [noise(*source, seed) for seed, source in enumerate(sources)]
    resized = [(72, 96), (72, 96), (72, 96), (29, 96)]
    sizes = [Geometry(s, r, (96, 96)) for s, r in zip(sources, resized, strict=True)]
    ours = on_device(device=device)(pictures, sizes).cpu()
    expected = on_host()(pictures, sizes)
    assert ((ours - expected).abs() <= 1 / torch.tensor(SPEC.std).view(3, 1, 1) + 1e-4).all()
    assert ((ours == 0) == (expected == 0)).float().mean() > 0.95


def test_a_view_of_a_picture_is_as_good_as_a_picture() -> None:
    """As others hand it over: BGR turned round, a part of a larger one, read-only."""
    whole = noise(80, 100)
    view = whole[10:70, 5:85, ::-1]
    view.flags.writeable = False
    for resized in ((60, 80), (48, 64)):
        size = Geometry((60, 80), resized, (64, 96))
        for prepare in (on_host(), on_device()):
            assert torch.equal(prepare([view], [size]), prepare([view.copy()], [size]))
