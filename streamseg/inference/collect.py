"""How the instances of a batch leave the device."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from streamseg.inference.finish import HostDetections, SoftMasks
from streamseg.masks.device_runs import run_edges, spans
from streamseg.masks.runs import MaskRuns
from streamseg.masks.upsample import Geometry
from streamseg.models.postprocess.detections import Good, Postprocessor, Ranked

Collector = Callable[[Postprocessor, Ranked, Sequence[Geometry]], list[HostDetections]]


def collector(device: torch.device, mask_threshold: float) -> Collector:
    """What brings instances to the host; a source pixel above ``mask_threshold`` is in the mask.

    On a CPU as soft masks, which the finishing threads enlarge: for the edges of runs torch takes about 50
    times as long there as numpy takes for masks and run lengths (``benchmarks/steps.py``). From CUDA as
    edges: nothing as large as a picture crosses, and the host has a fifth of the work.
    """
    collect = collect_soft_masks if device.type == "cpu" else collect_edges
    return partial(collect, threshold=mask_threshold)


def collect_soft_masks(
    postprocessor: Postprocessor, ranked: Ranked, _sizes: Sequence[Geometry], *, threshold: float
) -> list[HostDetections]:
    """Soft masks, one entry for each picture."""
    good = postprocessor.good(ranked)
    # One copy a picture: a view would hold all masks of the batch until the last picture is finished.
    masks = [SoftMasks(x.cpu().numpy().copy(), threshold) for x in good.soft_masks.split(good.counts)]
    return _by_picture(good, masks)


def collect_edges(
    postprocessor: Postprocessor, ranked: Ranked, sizes: Sequence[Geometry], *, threshold: float
) -> list[HostDetections]:
    """Edges of runs in the sources, one entry for each picture. The host waits for the device twice."""
    batch = torch.arange(len(sizes), device=ranked.chosen.device)[:, None]
    reach = spans(ranked.soft_masks[batch, ranked.chosen], threshold)
    good = postprocessor.good(ranked, *reach.unbind(dim=-1))
    geometries = [size for size, n in zip(sizes, good.counts, strict=True) for _ in range(n)]
    reaches: NDArray[np.int64] = np.stack([x.numpy() for x in good.more], axis=1).astype(np.int64)
    edges, counts = run_edges(good.soft_masks, reaches, geometries, threshold=threshold)
    ends = np.cumsum(good.counts)[:-1]
    of_pictures = np.split(counts, ends)
    split = np.split(edges, np.cumsum([of_picture.sum() for of_picture in of_pictures])[:-1])
    return _by_picture(
        good, [MaskRuns(*s.source, *runs) for s, *runs in zip(sizes, split, of_pictures, strict=True)]
    )


def _by_picture(good: Good, masks: Sequence[SoftMasks | MaskRuns]) -> list[HostDetections]:
    split = (np.split(x.numpy(), np.cumsum(good.counts)[:-1]) for x in (good.class_ids, good.scores))
    return [HostDetections(*found) for found in zip(*split, masks, strict=True)]
