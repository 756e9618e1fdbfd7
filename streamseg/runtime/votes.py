"""One label for one object: the frames of a track vote on it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from streamseg.results.frame_result import published_score
from streamseg.types import Instances

HALF_LIFE = 4.0
"""Seconds after which a vote weighs half: an object read wrongly far away is corrected once it is near."""
_LEAD = 2.0
"""A class has to outweigh the present one so many times to become the label.

With a lead of 1 the label of an object that is read as one of two classes by turns changes 48 times a minute
(10 frames a second, at random), with 2 once in three minutes.
"""
_FORGET = 10.0
"""Seconds: a track that is lost for longer does not come back."""


@dataclass(slots=True)
class _Count:
    """The votes of one track."""

    label: str
    class_id: int
    time: float
    """Seconds on the stream's clock of the last vote."""
    weights: dict[int, float] = field(default_factory=dict)
    """By class."""


class LabelVotes:
    """The labels of one stream's tracks within an epoch.

    Each sighting votes for the class that the network gave it, with its score. Only earlier frames and this
    one count, so a frame's labels never change afterwards.
    """

    def __init__(self) -> None:
        self._counts: dict[int, _Count] = {}

    def update(self, instances: Instances, *, time: float) -> Instances:
        """The instances of the next frame with the labels of their tracks.

        Those without an id keep their own. Scores stay those of the classes that the network gave.
        ``time`` is the frame's presentation time in seconds.
        """
        labels, class_ids = list(instances.labels), instances.class_ids.tolist()
        for i, id_ in enumerate(instances.ids):
            if id_ is None:
                continue
            count = self._counts.setdefault(id_, _Count(labels[i], class_ids[i], time))
            _vote(count, labels[i], class_ids[i], published_score(instances.scores[i]), time)
            labels[i], class_ids[i] = count.label, count.class_id
        self._counts = {id_: count for id_, count in self._counts.items() if time - count.time <= _FORGET}
        if tuple(labels) == instances.labels:
            return instances
        return replace(instances, labels=tuple(labels), class_ids=np.array(class_ids, np.int64))


def _vote(count: _Count, label: str, class_id: int, score: float, time: float) -> None:
    faded = 0.5 ** (max(0.0, time - count.time) / HALF_LIFE)
    count.weights = {one: weight * faded for one, weight in count.weights.items()}
    count.weights[class_id] = count.weights.get(class_id, 0.0) + score
    count.time = time
    # Only the class that has just got a vote can take the lead.
    if count.weights[class_id] > _LEAD * count.weights.get(count.class_id, 0.0):
        count.label, count.class_id = label, class_id
