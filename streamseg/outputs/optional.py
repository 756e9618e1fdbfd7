"""What an output may have beyond the protocol :class:`streamseg.types.Output`."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class PixelsOptional(Protocol):
    """An output that needs pixels but does without them for results that had to wait."""

    pixels_optional: bool


@runtime_checkable
class Patient(Protocol):
    """An output that may wait for a peer inside ``write``."""

    def hurry(self, patience: float | None = None) -> None:
        """Take notice, in any thread, that the run is over: from now on waits are bounded.

        By ``patience`` seconds if the user has stopped the run, else by the output's own choice.
        """


@runtime_checkable
class ReaderPaced(Protocol):
    """An output that somebody reads at leisure: it is never given up for being slow."""

    reader_paced: bool


@runtime_checkable
class Reporting(Protocol):
    """An output that publishes more of a stream than its results."""

    def report(self, stream: str, **fields: str | float) -> None:
        """Take notice, in any thread, of what only the pipeline knows (``dropped``, ``error``)."""


@runtime_checkable
class CutShort(Protocol):
    """An output that treats a stream differently if the user stopped it before its end."""

    def cut_short(self, stream: str) -> None:
        """Take notice, right before ``close``, that the stream's source has more to give."""
