"""Segmentation as a step of a Ray Data pipeline.

    import ray
    from streamseg.ray_data import Segment

    pictures = ray.data.read_images("s3://bucket/pictures", mode="RGB", include_paths=True)
    found = pictures.map_batches(Segment, batch_size=16, num_gpus=1, concurrency=4)
    found.write_parquet("s3://bucket/found")

Ray Data does a batch again whose worker died, so each picture is segmented at least once; what a pipeline
writes is its own affair. For files that are each done once see ``streamseg run --ray``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamseg.errors import UsageError
from streamseg.inference import Segmenter
from streamseg.results.frame_result import published_score, run_lengths_of
from streamseg.types import Instances

Batch = dict[str, NDArray[Any]]
"""Columns by name, each with one entry a row, as ``map_batches`` has them with ``batch_format="numpy"``."""


class Segment:
    """For ``Dataset.map_batches``: finds objects in a column of pictures.

    All other columns are passed on, the pictures are not unless asked for. These are added, for each row with
    N objects, best score first:

    | column | content |
    |---|---|
    | ``height``, ``width`` | of the picture |
    | ``labels`` | N class names |
    | ``class_ids`` | N numbers of these classes |
    | ``scores`` | N scores in [0, 1] |
    | ``boxes`` | N times x1, y1, x2, y2 in pixels, tight around the mask, x2 and y2 exclusive |
    | ``masks`` | N masks: the ``counts`` of COCO's compressed run lengths, whose size is height and width |
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] = "demo",
        *,
        column: str = "image",
        keep_pictures: bool = False,
        device: str = "auto",
        precision: str = "auto",
        runtime: str = "auto",
        score: float = 0.3,
        classes: Sequence[str] | None = None,
        max_instances: int | None = None,
    ) -> None:
        """Load the weights; Ray Data does so once in each of its workers.

        Args:
            weights: Name of bundled weights, or path of a ``.safetensors`` file.
            column: That has the pictures, each (H, W, 3) uint8 RGB; sizes may differ.
            keep_pictures: Pass them on.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; auto takes the GPU that Ray has reserved.
            precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
            runtime: ``auto``, ``torch``, ``onnxruntime`` or ``openvino``.
            score: Instances below this score, in [0, 1], are left out.
            classes: Names of the classes to look for, at least one; all that the model knows if not given.
            max_instances: At most so many per picture, the best ones; None: as the weights say.

        Raises UsageError as :meth:`streamseg.Segmenter.load`.
        """
        self._column, self._keep = column, keep_pictures
        self._segmenter = Segmenter.load(
            weights,
            device=device,
            precision=precision,
            runtime=runtime,
            score=score,
            classes=classes,
            max_instances=max_instances,
        )

    def __call__(self, batch: Batch) -> Batch:
        """The columns of a batch with those of what was found.

        Raises UsageError: there is no such column, or an entry of it is no picture.
        """
        found = self._segmenter(self._pictures(batch))
        kept = {name: values for name, values in batch.items() if self._keep or name != self._column}
        return {**kept, **columns_of(found)}

    def _pictures(self, batch: Batch) -> list[NDArray[np.uint8]]:
        if self._column not in batch:
            raise UsageError(f"no column {self._column!r}: there are {', '.join(batch)}")
        pictures = [np.asarray(picture) for picture in batch[self._column]]
        for picture in pictures:
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise UsageError(
                    f"column {self._column!r}: a picture is (H, W, 3) uint8 RGB, not {picture.shape} "
                    f'{picture.dtype}; ray.data.read_images takes mode="RGB"'
                )
        return pictures


def columns_of(found: Sequence[Instances]) -> Batch:
    """What was found in pictures as columns, see :class:`Segment`."""
    return {
        "height": np.array([one.height for one in found], np.int64),
        "width": np.array([one.width for one in found], np.int64),
        "labels": _ragged([list(one.labels) for one in found]),
        "class_ids": _ragged([one.class_ids.tolist() for one in found]),
        "scores": _ragged([list(map(published_score, one.scores)) for one in found]),
        "boxes": _ragged([one.boxes.tolist() for one in found]),
        "masks": _ragged([[rle.counts for rle in run_lengths_of(one)] for one in found]),
    }


def _ragged(rows: Sequence[list[Any]]) -> NDArray[Any]:
    """Rows of different lengths; also if all are of one, which numpy would make a table of."""
    column = np.empty(len(rows), object)
    for i, row in enumerate(rows):
        column[i] = row
    return column
