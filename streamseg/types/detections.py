"""Objects as supervision's Detections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamseg.errors import UsageError

if TYPE_CHECKING:
    from supervision import Detections

_NO_ID = -1
"""What supervision's trackers give an object that belongs to no track."""


def make_detections(
    *,
    boxes: ArrayLike,
    masks: NDArray[np.bool_],
    labels: Sequence[str],
    class_ids: ArrayLike,
    scores: ArrayLike,
    ids: Sequence[int | None],
) -> Detections:
    """N objects as ``supervision.Detections``.

    ``boxes`` (N, 4) become ``xyxy``, ``masks`` (N, height, width) ``mask``, ``labels``
    ``data["class_name"]``; an object without an id gets the tracker id -1, and none has one without tracking.

    Raises:
        UsageError: The package is missing.
    """
    try:
        import supervision  # noqa: PLC0415  it takes a second, and OpenCV
    except ModuleNotFoundError as error:
        raise UsageError(
            f"to_supervision needs the package {error.name}: pip install 'streamseg[supervision]'"
        ) from error
    tracked = any(id_ is not None for id_ in ids)
    data: dict[str, Any] = {"class_name": np.array(labels, dtype=np.str_)}
    return supervision.Detections(
        xyxy=np.asarray(boxes, np.float32).reshape(-1, 4),
        mask=masks,
        confidence=np.asarray(scores, np.float32),
        class_id=np.asarray(class_ids, np.int64),
        tracker_id=np.array([_NO_ID if id_ is None else id_ for id_ in ids], np.int64) if tracked else None,
        data=data,
    )
