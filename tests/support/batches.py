"""A whole batch through the three calls of a model."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from streamseg.types import Instances, Model, Ticket


def segment_batch(model: Model[Ticket], pictures: Sequence[NDArray[np.uint8]]) -> list[Instances]:
    """Submit, wait, and finish one picture after the other."""
    ticket = model.submit(pictures)
    model.wait(ticket)
    return [model.finish(ticket, k) for k in range(len(pictures))]
