"""What a run is made of: a model, outputs with a writer for each stream, something that measures.

An output of one's own is two small classes:

    class Counts(StreamWriter):
        def write(self, result, frame, instances):
            print(result.stream, len(result.instances))

    class Printed(Output):
        def open(self, info):
            return Counts()
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from streamseg.types.events import StreamEnd
from streamseg.types.frames import Frame, StreamInfo
from streamseg.types.instances import Instances
from streamseg.types.results import FrameResult

Ticket = TypeVar("Ticket")
"""What a model gives for a batch that it was handed: only the model itself looks into it."""


class Model(Protocol[Ticket]):
    """What finds instances: :class:`streamseg.Segmenter`, or anything else that does.

    A batch goes through three calls: ``submit`` and ``wait``, in the order of batches, each in a thread of
    its own; then ``finish`` for each of its pictures, in any threads.
    """

    name: str
    classes: tuple[str, ...]
    """Names of all it knows."""

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Size at which a picture enters the network: pictures of one canvas make a batch."""

    def submit(self, pictures: Sequence[NDArray[np.uint8]]) -> Ticket:
        """Hand a batch to the device; the pictures are (H, W, 3) uint8 RGB."""

    def wait(self, ticket: Ticket) -> None:
        """Return when the device is done with the batch: it is free for the next one."""

    def finish(self, ticket: Ticket, k: int) -> Instances:
        """The instances of the batch's picture ``k``: work of the host, after :meth:`wait`, in any thread.

        It is called once for each picture; different pictures of a batch may be finished at the same time.
        """


class Meter(Protocol):
    """What measures a run while it goes on. All methods in any thread."""

    def batch(self, size: int) -> None:
        """A batch of ``size`` frames goes to the network."""

    def stage(self, name: str, seconds: float) -> None:
        """A piece of work took so long; ``name`` is that of the stage."""


class Pixels(Enum):
    """Which results an output is given together with their frame and instances."""

    NEVER = "never"
    RECENT = "recent"
    """The newest ones alone if it cannot keep up: results wait longer than their pictures."""
    ALWAYS = "always"


class ResultDroppedError(Exception):
    """Raised by a writer for a result that it left out for want of time: it is counted as dropped."""


class StreamWriter(ABC):
    """Writes the results of one stream. Its methods are called by one thread at a time, in order.

    Any other exception than ResultDroppedError ends the output of this stream; an OutputGoneError ends the
    output for all streams. What could still be put in order is closed as failed.
    """

    def begin_epoch(self, info: StreamInfo) -> None:
        """The live source was opened again, perhaps with another size or frame rate. Raises OutputError."""

    @abstractmethod
    def write(self, result: FrameResult, frame: Frame | None, instances: Instances | None) -> None:
        """Hand on one frame's result. Raises OutputError, or ResultDroppedError if it is left out.

        ``frame`` and ``instances`` are there as :attr:`Output.pixels` says, else None.
        """

    def close(self, end: StreamEnd) -> None:
        """Finish the stream, once and as the last call. Raises OutputError."""


class Output(ABC):
    """Where results go: gives each stream a writer of its own.

    Every writer works behind a bounded backlog. A recorded stream waits for its writer; of a live stream
    the oldest results are dropped and counted if the writer cannot keep up.
    """

    pixels: Pixels = Pixels.NEVER
    """What its writers draw on."""
    writers_at_once: int = 1
    """How many of its writers may work at the same time, each in a thread. 1: they take turns, and what
    they share needs no lock."""
    events_only: bool = False
    """Whether it is given those results alone in which something happened at a zone or line."""
    paced_by_reader: bool = False
    """Whether somebody reads it at leisure: it is then never given up for being slow."""
    closes_last: bool = False
    """Whether its finished file says that a recorded stream needs no more work: it is finished when all other
    outputs have written the stream."""

    @property
    def trouble(self) -> str | None:
        """Why it can hand on nothing now, in one line; None while it can. In any thread, without waiting."""
        return None

    @property
    def missed(self) -> Mapping[tuple[str, str], int]:
        """Results that were written, and gone before a reader had them, as far as is known.

        By stream and reader. In any thread, without waiting.
        """
        return {}

    def check(self, streams: Sequence[str]) -> None:
        """Before anything is processed: can the results of these streams be written? Raises UsageError."""

    @abstractmethod
    def open(self, info: StreamInfo) -> StreamWriter:
        """A writer for a stream that begins. Raises OutputError or UsageError.

        A stream that comes back after its end gets a new one. Called by one of the output's threads,
        never by two at once.
        """

    def report(self, stream: str, **fields: str | float) -> None:
        """Be told, in any thread, what only the run knows: ``state``, ``dropped``, ``error``, ..."""

    def hurry(self, patience: float | None = None) -> None:
        """Be told, in any thread, that the run is over: from now on waits for a peer are bounded.

        By ``patience`` seconds if the user has stopped the run, else by the output's own choice.
        """

    def shutdown(self) -> None:
        """Let go of everything, after the last writer was closed."""
