"""Ids that stay with an object: ByteTrack (Zhang et al. 2022) from the library ``trackers``."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import supervision
from trackers import ByteTrackTracker

from streamseg.masks.parts import main_boxes
from streamseg.results.frame_result import published_score
from streamseg.types import Instances

_MEMORY_SECONDS = 2.0
"""How long an object may be hidden and still keep its id."""
_START_SCORE = 0.4
"""An instance needs this score to begin a track; a known object is followed at any score."""
_LEAST_IOU = 0.1
"""Of an object's box with where it was expected: people who walk across a small picture move half their
width between two frames."""
_TICK = 1e-3


class Tracker:
    """The tracks of one stream and epoch. Instances that belong to no track have the id None.

    An object is given its id when it is seen the second time, if its score was above 0.4 the first.
    """

    def __init__(self, *, fps: float | None) -> None:
        """``fps``: frames per second of the stream, None if unknown (30 is assumed)."""
        self._tracker = ByteTrackTracker(
            lost_track_buffer=round(_MEMORY_SECONDS * 30),  # the library counts frames of 30 fps
            frame_rate=fps or 30.0,
            track_activation_threshold=_START_SCORE,
            high_conf_det_threshold=_START_SCORE,
            minimum_consecutive_frames=1,
            minimum_iou_threshold=_LEAST_IOU,
        )
        self._time = -math.inf

    def update(self, instances: Instances, *, time: float) -> Instances:
        """Give the instances of the next frame their ids and main boxes.

        ``time`` is its presentation time in seconds. Time counts, not frames: some are left out on purpose
        (``--stride``) or dropped.
        """
        # Cameras repeat timestamps now and then, which the library refuses.
        self._time = time if time > self._time else self._time + _TICK
        # Stray pieces make boxes of whole masks jump: with them ids switch three times as often.
        main = main_boxes(instances.boxes, instances.crops)
        tracked = self._tracker.update(
            supervision.Detections(
                xyxy=main.astype(np.float32),
                # As published, so that an interrupted run is continued from its results with the same ids.
                confidence=np.array([published_score(s) for s in instances.scores], np.float32),
                class_id=instances.class_ids,
                # The library may return the detections in another order.
                data={"row": np.arange(len(instances))},
            ),
            timestamp=self._time,
        )
        ids: list[int | None] = [None] * len(instances)
        if len(tracked) and tracked.tracker_id is not None:
            for row, track in zip(tracked.data["row"], tracked.tracker_id, strict=True):
                ids[int(row)] = int(track) if track >= 0 else None
        return replace(instances, ids=tuple(ids), main_boxes=main)
