"""What a worker of recordings and the queue say to each other, beside the worker's report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamseg.scale.file_queue import Claim, FileReport
from streamseg.scale.file_work import FileWork


class QueueAwayError(Exception):
    """The queue gives no answer."""


@dataclass(frozen=True, slots=True)
class FileOrders:
    """What a worker is to do from now on."""

    version: int
    """Of the work; -1: there is none."""
    claims: Sequence[Claim] = ()
    """New ones."""
    dropped: Sequence[str] = ()
    """Streams that are another's now."""
    work: FileWork | None = None
    """If the worker has another version."""


Ask = Callable[[FileReport, int], FileOrders]
"""Gives a report and the version of the worker's work to the queue; raises QueueAwayError."""
