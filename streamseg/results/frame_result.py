"""From the instances of a frame to the result that is published, and back."""

import msgspec
import numpy as np

from streamseg.masks.rle import RunLengths, encode_crop
from streamseg.types import RESULT_VERSION, Frame, FrameResult, InstanceResult, Instances
from streamseg.types.zones import ZoneEvent
from streamseg.zones import Watched


def frame_result(
    frame: Frame,
    instances: Instances,
    *,
    model: str,
    published_at: float,
    source: str = "",
    watched: Watched | None = None,
) -> FrameResult:
    """The result of ``frame``, in which ``instances`` were found.

    Args:
        frame: The frame.
        instances: At the size of the frame.
        model: Name of the model that found them.
        published_at: Seconds of the monotonic clock.
        source: What the frame was read from, see :attr:`StreamInfo.source`.
        watched: What zones and lines say of it, if the stream has any.
    """
    zones = watched.zones if watched else (msgspec.UNSET,) * len(instances)
    return FrameResult(
        v=RESULT_VERSION,
        stream=frame.stream,
        epoch=frame.epoch,
        frame=frame.index,
        pts=published_pts(frame),
        time=round(frame.time, 3),
        width=frame.width,
        height=frame.height,
        latency_ms=round((published_at - frame.decoded_at) * 1000, 1),
        model=model,
        instances=tuple(
            _instance_result(instances, i, rle, zones[i]) for i, rle in enumerate(run_lengths_of(instances))
        ),
        counts=watched.counts if watched else msgspec.UNSET,
        events=_events(watched, source) or msgspec.UNSET,
        source=source,
    )


def _events(watched: Watched | None, source: str) -> tuple[ZoneEvent, ...]:
    events = watched.events if watched else ()
    return tuple(msgspec.structs.replace(event, source=source) for event in events)


def published_pts(frame: Frame) -> float:
    """Presentation time in seconds, rounded as in a result."""
    return round(frame.pts, 6)


def published_score(score: float) -> float:
    """Score, rounded as in a result."""
    return round(float(score), 4)


def instances_of(result: FrameResult) -> Instances:
    """The instances that a published result was made from, with rounded scores.

    Raises:
        ValueError: A mask does not fill its picture, or a box lies outside of it.
    """
    found = result.instances
    boxes = np.array([instance.box for instance in found], np.int64).reshape(-1, 4)
    crops = (
        instance.mask[y1:y2, x1:x2] for instance, (x1, y1, x2, y2) in zip(found, boxes.tolist(), strict=True)
    )
    return Instances(
        height=result.height,
        width=result.width,
        class_ids=np.array([instance.class_id for instance in found], np.int64),
        labels=tuple(instance.label for instance in found),
        scores=np.array([instance.score for instance in found], np.float32),
        boxes=boxes,
        crops=tuple(crops),
        ids=tuple(instance.id for instance in found),
        run_lengths=tuple(instance.rle for instance in found),
    )


def run_lengths_of(instances: Instances) -> tuple[RunLengths, ...]:
    """The masks' run lengths, made now if nobody has made them yet."""
    return instances.run_lengths or tuple(
        encode_crop(crop, box, instances.height, instances.width)
        for crop, box in zip(instances.crops, instances.boxes, strict=True)
    )


def _instance_result(
    instances: Instances, i: int, rle: RunLengths, zones: tuple[str, ...] | msgspec.UnsetType
) -> InstanceResult:
    x1, y1, x2, y2 = instances.boxes[i].tolist()
    return InstanceResult(
        id=instances.ids[i] if instances.ids else None,
        label=instances.labels[i],
        class_id=int(instances.class_ids[i]),
        score=published_score(instances.scores[i]),
        box=(float(x1), float(y1), float(x2), float(y2)),
        area=int(np.count_nonzero(instances.crops[i])),
        rle=rle,
        zones=zones,
    )
