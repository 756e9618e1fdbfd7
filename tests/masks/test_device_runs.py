"""Run lengths made by torch equal those made on the host, bit for bit."""

import numpy as np
import pytest
import torch

from streamseg.masks import device_runs
from streamseg.masks.device_runs import run_edges, spans
from streamseg.masks.rle import decode_edges, encode_crop, encode_edges
from streamseg.masks.upsample import Geometry, enlarge

SIZES = [
    Geometry(source=(540, 960), resized=(270, 480), canvas=(288, 480)),
    Geometry(source=(90, 61), resized=(283, 192), canvas=(288, 480)),
    Geometry(source=(288, 480), resized=(288, 480), canvas=(288, 480)),
]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def blobs(count: int, *, seed: int = 0, size: tuple[int, int] = (72, 120)) -> torch.Tensor:
    """Soft masks with holes, stray pieces and ragged edges, some over all of the canvas."""
    rng = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*(torch.linspace(0, 1, s) for s in size), indexing="ij")
    middles, radii = (
        torch.rand(count, 2, 1, 1, generator=rng),
        0.02 + 0.5 * torch.rand(count, 1, 1, generator=rng),
    )
    far = ((y - middles[:, 0]) ** 2 + (x - middles[:, 1]) ** 2).sqrt() / radii
    return (4 - 4 * far + 1.5 * torch.randn(count, *size, generator=rng)).sigmoid()


def assert_equal(soft: torch.Tensor, geometries: list[Geometry], *, device: str = "cpu") -> int:
    """Returns the number of edges."""
    there = soft.to(device)
    ours = run_edges(there, spans(there, 0.5).cpu().numpy(), geometries, threshold=0.5)
    edges = 0
    for mask, mine, sizes in zip(soft.numpy(), ours, geometries, strict=True):
        (box,), (crop,) = enlarge(mask[None], sizes, threshold=0.5)
        assert bool(len(mine)) == bool(crop.size)
        if crop.size:
            assert encode_edges(mine, *sizes.source) == encode_crop(crop, box, *sizes.source)
            found, inside = decode_edges(mine, sizes.source[0])
            assert found == tuple(box.tolist())
            np.testing.assert_array_equal(inside, crop)
        edges += len(mine)
    return edges


@pytest.mark.parametrize("device", DEVICES)
def test_masks_of_pictures_of_different_size_in_one_batch(device: str) -> None:
    assert_equal(blobs(9), [SIZES[k % 3] for k in range(9)], device=device)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("threshold_at", ["everywhere", "nowhere", "edge", "padding", "pixel"])
def test_extreme_masks(threshold_at: str, device: str) -> None:
    soft = torch.zeros(3, 72, 120)
    if threshold_at == "everywhere":
        soft[:] = 0.9
    elif threshold_at == "edge":
        soft[:, 0, :] = soft[:, :, -1] = 0.9
    elif threshold_at == "padding":
        soft[:, 70:] = 0.9
    elif threshold_at == "pixel":
        soft[0, 30, 40] = soft[2, 71, 119] = 0.9
    assert_equal(soft, SIZES, device=device)


@pytest.mark.parametrize("device", DEVICES)
def test_a_mask_of_noise_has_more_edges_than_there_is_room_for_at_first(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft = torch.rand(2, 72, 120, generator=torch.Generator().manual_seed(1))
    expected = assert_equal(soft, SIZES[1:2] * 2, device=device)
    monkeypatch.setattr(device_runs, "_EDGES", 1)
    assert assert_equal(soft, SIZES[1:2] * 2, device=device) == expected
    assert expected > 2 * SIZES[1].source[1]


def test_maps_of_fewer_pixels_than_taps() -> None:
    sizes = Geometry(source=(50, 40), resized=(30, 24), canvas=(32, 32))
    for size in ((1, 2), (2, 8), (8, 1)):
        assert_equal(blobs(6, size=size), [sizes] * 6)


def test_no_masks() -> None:
    assert run_edges(torch.zeros(0, 72, 120), np.zeros((0, 4), np.int64), [], threshold=0.5) == []
