"""From instances to the frame result that is published."""

import numpy as np
from numpy.typing import NDArray

from streamseg.rle import encode_crop
from streamseg.types import RESULT_VERSION, Frame, FrameResult, InstanceResult, Instances


def frame_result(frame: Frame, instances: Instances, *, model: str, published: float) -> FrameResult:
    """Describe what was found in ``frame``; ``published`` is in UNIX seconds."""
    return FrameResult(
        v=RESULT_VERSION,
        stream=frame.stream,
        epoch=frame.epoch,
        frame=frame.index,
        pts=round(frame.pts, 6),
        time=round(frame.time, 3),
        width=frame.width,
        height=frame.height,
        latency_ms=round((published - frame.time) * 1000, 1),
        model=model,
        instances=tuple(_instance_result(instances, i) for i in range(len(instances))),
    )


def _instance_result(instances: Instances, i: int) -> InstanceResult:
    x1, y1, x2, y2 = instances.boxes[i].tolist()
    crop: NDArray[np.bool_] = instances.crops[i]
    return InstanceResult(
        id=instances.ids[i] if instances.ids else None,
        label=instances.labels[i],
        class_id=int(instances.class_ids[i]),
        score=round(float(instances.scores[i]), 4),
        box=(float(x1), float(y1), float(x2), float(y2)),
        area=int(np.count_nonzero(crop)),
        rle=encode_crop(crop, (x1, y1, x2, y2), instances.height, instances.width),
    )
