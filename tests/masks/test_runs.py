"""Runs made on the host and on a device equal those of masks made pixel by pixel, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamseg.masks import device_runs, host_runs
from streamseg.masks.device_runs import run_edges, spans
from streamseg.masks.host_runs import mask_runs
from streamseg.masks.rle import encode_crop
from streamseg.masks.runs import MaskRuns, RunCrops
from streamseg.masks.upsample import Geometry
from tests.support.enlarge import enlarge

SIZES = [
    Geometry(source=(540, 960), resized=(270, 480), canvas=(288, 480)),
    Geometry(source=(90, 61), resized=(283, 192), canvas=(288, 480)),
    Geometry(source=(288, 480), resized=(288, 480), canvas=(288, 480)),
]
WAYS = ["host", "cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


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


def runs_of(soft: torch.Tensor, geometries: list[Geometry], way: str, threshold: float) -> list[MaskRuns]:
    """The runs of each mask, made by the host of all of one geometry, or on a device of all at once."""
    if way == "host":
        made = {
            g: mask_runs(soft.numpy()[[g == of for of in geometries]], g, threshold=threshold)
            for g in geometries
        }
        return [made[g].some([geometries[:k].count(g)]) for k, g in enumerate(geometries)]
    there = soft.to(way)
    edges, counts = run_edges(there, spans(there, threshold).cpu().numpy(), geometries, threshold=threshold)
    split = np.split(edges, counts.cumsum()[:-1])
    return [
        MaskRuns(*g.source, one, counts[[k]])
        for k, (g, one) in enumerate(zip(geometries, split, strict=True))
    ]


def assert_equal(soft: torch.Tensor, geometries: list[Geometry], way: str, *, threshold: float = 0.5) -> int:
    """Returns the number of edges."""
    edges = 0
    for mask, mine, sizes in zip(
        soft.numpy(), runs_of(soft, geometries, way, threshold), geometries, strict=True
    ):
        (box,), (crop,) = enlarge(mask[None], sizes, threshold=threshold)
        assert mine.run_lengths() == (encode_crop(crop, box, *sizes.source),)
        assert mine.areas().tolist() == [crop.sum()]
        assert bool(len(mine.edges)) == bool(crop.size)
        if crop.size:
            crops = RunCrops.of(mine)
            np.testing.assert_array_equal(crops.boxes, [box])
            np.testing.assert_array_equal(crops[0], crop)
        edges += len(mine.edges)
    return edges


@pytest.mark.parametrize("way", WAYS)
def test_masks_of_pictures_of_different_size_in_one_batch(way: str) -> None:
    assert_equal(blobs(9), [SIZES[k % 3] for k in range(9)], way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("threshold_at", ["everywhere", "nowhere", "edge", "padding", "pixel"])
def test_extreme_masks(threshold_at: str, way: str) -> None:
    soft = torch.zeros(3, 72, 120)
    if threshold_at == "everywhere":
        soft[:] = 0.9
    elif threshold_at == "edge":
        soft[:, 0, :] = soft[:, :, -1] = 0.9
    elif threshold_at == "padding":
        soft[:, 70:] = 0.9
    elif threshold_at == "pixel":
        soft[0, 30, 40] = soft[2, 71, 119] = 0.9
    assert_equal(soft, SIZES, way)


@pytest.mark.parametrize("way", WAYS)
def test_a_mask_of_noise_has_more_edges_than_there_is_room_for_at_first(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft = torch.rand(2, 72, 120, generator=torch.Generator().manual_seed(1))
    expected = assert_equal(soft, SIZES[1:2] * 2, way)
    monkeypatch.setattr(device_runs, "_EDGES", 1)
    assert assert_equal(soft, SIZES[1:2] * 2, way) == expected
    assert expected > 2 * SIZES[1].source[1]


@pytest.mark.parametrize("way", WAYS)
def test_maps_of_fewer_pixels_than_taps(way: str) -> None:
    sizes = Geometry(source=(50, 40), resized=(30, 24), canvas=(32, 32))
    for size in ((1, 2), (2, 8), (8, 1)):
        assert_equal(blobs(6, size=size), [sizes] * 6, way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("source", [(20, 33), (72, 120), (301, 77)])
def test_sources_smaller_and_larger_than_the_network_s_map(source: tuple[int, int], way: str) -> None:
    sizes = Geometry(source=source, resized=(288, 320), canvas=(288, 480))
    assert_equal(blobs(12, seed=3), [sizes] * 12, way)


@pytest.mark.parametrize("way", WAYS)
def test_values_at_the_very_threshold(way: str) -> None:
    """How a mean of equal values is rounded decides there, and no pixel outside of a mask's box counts."""
    odd = Geometry(source=(517, 811), resized=(271, 433), canvas=(288, 480))
    for at in (0.5, 0.3):
        soft = torch.full((12, 72, 120), at)
        soft[:6] += torch.linspace(-2e-6, 2e-6, 6)[:, None, None] * torch.rand(6, 72, 120)
        soft[:6, 20:50, 30:90] = at + 6e-8 * torch.arange(-2, 4)[:, None, None]
        for k in range(6, 12):
            soft[k, 5 * k : 5 * k + 9, 7 * k : 7 * k + 12] = 0.9
        assert assert_equal(soft, [(*SIZES, odd)[k % 4] for k in range(12)], way, threshold=at)
        assert assert_equal(soft[6:], [odd] * 6, way, threshold=at)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(SIZES), st.integers(1, 9), st.booleans())
def test_any_masks_of_a_picture(seed: int, sizes: Geometry, count: int, sharp: bool) -> None:
    soft = blobs(count, seed=seed)
    assert_equal(soft.round() if sharp else soft, [sizes] * count, "host")


def test_masks_that_go_through_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_runs, "_AT_ONCE", 1)
    assert_equal(blobs(5), SIZES[:1] * 5, "host")


def test_no_masks() -> None:
    edges, counts = run_edges(torch.zeros(0, 72, 120), np.zeros((0, 4), np.int64), [], threshold=0.5)
    none = mask_runs(np.zeros((0, 72, 120), np.float32), SIZES[0], threshold=0.5)
    for runs in (none, MaskRuns(540, 960, edges, counts)):
        assert len(runs) == 0
        assert runs.run_lengths() == ()
        assert runs.areas().shape == (0,)
        assert RunCrops.of(runs).boxes.shape == (0, 4)


def test_a_mask_becomes_pixels_when_it_is_looked_at() -> None:
    crops = RunCrops.of(mask_runs(blobs(4).numpy(), SIZES[0], threshold=0.5))
    assert crops._made == [None] * 4
    second = crops[1]
    assert crops[1] is second
    assert crops[-3] is second
    chosen = crops.some([3, 1])
    assert chosen[1] is second
    assert chosen.areas.tolist() == [crops[3].sum(), second.sum()]
    np.testing.assert_array_equal(chosen[0], crops[3])
    assert [one.shape for one in crops[1:3]] == [second.shape, crops[2].shape]
    with pytest.raises(IndexError):
        crops[4]
