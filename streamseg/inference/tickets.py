"""What stands for a batch on its way through the device."""

from concurrent.futures import Future
from dataclasses import dataclass

import torch

from streamseg.inference.finish import HostDetections
from streamseg.masks.upsample import Geometry
from streamseg.models.nets.head import HeadOutput
from streamseg.models.postprocess.candidates import Candidates


@dataclass(frozen=True, slots=True, eq=False)
class Computing:
    """A batch in the network."""

    output: HeadOutput
    candidates: Candidates
    begun: torch.cuda.Event | None
    """When the network began; None on a CPU."""
    ready: torch.cuda.Event | None
    """When its output was there."""


@dataclass(slots=True, eq=False)
class BatchTicket:
    """A batch of B pictures on its way. It holds what the next call needs, and nothing after that."""

    sizes: tuple[Geometry, ...]
    """Sizes of each picture, all on the canvas of the batch."""
    computing: Future[Computing] | None
    """The network's output, until it is waited for."""
    found: list[HostDetections | None]
    """What each picture holds: after it was waited for, until it is finished."""
