"""From the logits of a batch to the final instances of each image.

The same on CPU and GPU, for all images of a batch at once. The host waits for the device twice: for the
number of candidates, which comes with :func:`select_candidates` and may have arrived long before, and
for the scores.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from streamseg.models.nets.head import HeadOutput, candidate_masks
from streamseg.models.postprocess.blocks import download, pictures_at_once, to_device
from streamseg.models.postprocess.candidates import Candidates, make_grids, select_candidates
from streamseg.models.postprocess.maskness import measure, score_masks
from streamseg.models.postprocess.matrix_nms import matrix_nms
from streamseg.models.spec import TestSpec


@dataclass(frozen=True, slots=True)
class Ranked:
    """The best of B images' candidates in K slots each, best score first."""

    class_ids: Tensor
    """(B, K) int64."""
    scores: Tensor
    """(B, K) float32; -1 for noise and in an empty slot."""
    soft_masks: Tensor
    """(B, N, h, w) float32 in [0, 1] over the padded canvas, of all candidates."""
    chosen: Tensor
    """(B, K) int64: which of the N masks belongs to a slot."""


@dataclass(frozen=True, slots=True)
class Good:
    """M instances of B images, image by image, best score first."""

    counts: list[int]
    """How many of them each image has."""
    class_ids: Tensor
    """(M,) int64 on the host."""
    scores: Tensor
    """(M,) float32 on the host."""
    soft_masks: Tensor
    """(M, h, w) float32 in [0, 1] over the padded canvas, on the device."""
    more: list[Tensor]
    """(M,) float32 each on the host: what else was asked for."""


class Postprocessor:
    """What comes behind the network, with its constants on the device."""

    def __init__(
        self,
        *,
        grids: Sequence[int],
        strides: Sequence[int],
        test: TestSpec,
        device: torch.device,
        class_ids: Sequence[int] | None = None,
    ) -> None:
        """Prepare for grids of S x S and strides in pixels, one of each per level.

        ``class_ids`` restricts the classes looked for, before any mask is built; see :class:`TestSpec` for
        the rest.
        """
        self._test = test
        self._grids = make_grids(grids, device)
        self._strides = torch.tensor(list(strides), device=device)[self._grids.levels]
        self._class_ids = None if class_ids is None else torch.tensor(sorted(class_ids), device=device)

    @torch.no_grad()
    def select(self, output: HeadOutput) -> Candidates:
        """Choose what is worth a mask in B images; the host does not wait for the device."""
        return select_candidates(
            output.class_logits,
            self._grids,
            threshold=self._test.score_threshold,
            limit=self._test.max_candidates,
            class_ids=self._class_ids,
        )

    @torch.no_grad()
    def rank(self, output: HeadOutput, candidates: Candidates) -> Iterator[tuple[slice, Ranked]]:
        """Masks, scores and Matrix NMS of candidates whose number has arrived.

        All images at once, unless their masks take too much memory: yields which ones, and what they hold.
        """
        candidates = candidates.used()
        batch, slots = candidates.cells.shape
        height, width = output.mask_size
        step = pictures_at_once(candidates.cells.device, 4 * slots * height * width)
        for start in range(0, batch, step):
            part = slice(start, min(start + step, batch))
            some = output if step >= batch else output.pictures(part)
            yield part, self._rank(some, candidates if step >= batch else candidates.pictures(part))

    def good(self, ranked: Ranked, *more: Tensor) -> Good:
        """The instances that are good enough. The host waits for the device.

        ``more`` (B, K) float32 values come with them.
        """
        scores, class_ids, chosen, *others = download((ranked.scores, ranked.class_ids, ranked.chosen, *more))
        keep = scores >= self._test.filter_threshold
        image, _ = keep.nonzero(as_tuple=True)
        masks = (image * ranked.soft_masks.shape[1] + chosen[keep].long()).numpy()
        return Good(
            keep.sum(dim=1).tolist(),
            class_ids[keep].long(),
            scores[keep],
            ranked.soft_masks.flatten(0, 1)[to_device(masks, ranked.scores.device)],
            [values[keep] for values in others],
        )

    def _rank(self, output: HeadOutput, candidates: Candidates) -> Ranked:
        """Score, suppress and sort the candidates (SOLO paper, "Inference"; SOLOv2 paper, "Matrix NMS")."""
        test = self._test
        soft_masks = candidate_masks(output, candidates)
        shared, total = measure(soft_masks, test.mask_threshold)
        area = shared.diagonal(dim1=1, dim2=2)
        scores = score_masks(candidates.scores, area, total, self._strides[candidates.cells])
        # Noise and empty slots sort last, where they can no longer suppress anything.
        scores = scores.masked_fill(candidates.scores == 0, -1.0)
        before, order = best_first(scores, test.nms_pre)
        class_ids = candidates.class_ids.gather(1, order)
        slots = shared.shape[1]
        shared = shared.gather(1, order[:, :, None].expand(-1, -1, slots))
        shared = shared.gather(2, order[:, None, :].expand(-1, shared.shape[1], -1))
        after = matrix_nms(
            shared,
            class_ids,
            before,
            kernel=test.kernel,
            sigma=test.sigma,
            overlap=test.overlap,
        )
        scores, best = best_first(after.masked_fill(before < 0, -1.0), test.max_instances)
        return Ranked(class_ids.gather(1, best), scores, soft_masks, order.gather(1, best))


def best_first(scores: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """(B, N) -> the best ``limit`` of each row and where they were; equal ones keep their order."""
    ranked, order = scores.sort(dim=1, descending=True, stable=True)
    return ranked[:, :limit], order[:, :limit]
