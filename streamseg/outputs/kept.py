"""What an interrupted run left: the whole lines of an NDJSON file, and the instances in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from streamseg.errors import UsageError
from streamseg.results.frame_result import instances_of, published_pts
from streamseg.results.reading import parse_result
from streamseg.types import Frame, FrameResult, Instances


@dataclass(slots=True)
class Kept:
    """The results of one stream that stand in a file already."""

    path: Path
    lines: int = 0
    size: int = 0
    """Bytes of these lines."""
    model: str = ""
    misfit: str | None = None
    """Why they cannot be of this source; found out while it is read."""

    def results(self) -> Iterator[FrameResult]:
        """The kept results in order; the file may grow meanwhile. Raises OSError or ValueError."""
        with self.path.open("rb") as file:
            for _, line in zip(range(self.lines), file, strict=False):
                yield parse_result(line)


def find_kept(path: Path, stream: str) -> Kept:
    """Look through a file for the results that can be kept: all up to the first that is torn.

    A process that is killed leaves at most half a line at the end, a machine that loses its power
    may leave zeros or anything else.

    Raises:
        UsageError: The file cannot be read.
    """
    kept, last = Kept(path), -1
    try:
        with path.open("rb") as file:
            for line in file:
                result = _whole(line, stream, after=last)
                if result is None:
                    break
                last, kept.model = result.frame, result.model
                kept.lines += 1
                kept.size += len(line)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    return kept


def first_result(path: Path) -> FrameResult | None:
    """The first result of a file; None if it has none that can be read."""
    try:
        with path.open("rb") as file:
            return parse_result(file.readline())
    except (OSError, ValueError):
        return None


def _whole(line: bytes, stream: str, *, after: int) -> FrameResult | None:
    try:
        result = parse_result(line)
    except ValueError:
        return None
    expected = line.endswith(b"\n") and (result.stream, result.epoch) == (stream, 0)
    return result if expected and result.frame > after else None


class KeptInstances:
    """Gives out the instances of frames that have their result already; None for all others.

    The frames of a stream are asked for in order and from the first one on. Whatever does not fit
    the frame it should belong to is noted in :attr:`Kept.misfit`, and the rest is not used.
    """

    def __init__(self, kept: Mapping[str, Kept]) -> None:
        """``kept``: by stream."""
        self._kept = dict(kept)
        self._results = {stream: one.results() for stream, one in kept.items()}

    def add(self, stream: str, kept: Kept) -> None:
        """Know the results of one more stream, before its first frame is asked for."""
        self._kept[stream], self._results[stream] = kept, kept.results()

    def __call__(self, frame: Frame) -> Instances | None:
        """The instances found in ``frame`` by the interrupted run."""
        results = self._results.get(frame.stream)
        if results is None:
            return None
        found, misfit = None, None
        try:
            if (result := next(results, None)) is not None:
                # The tracker gives them their ids again.
                found, misfit = replace(instances_of(result), ids=()), _misfit(frame, result)
        except (OSError, ValueError) as error:
            misfit = f"cannot be read any more ({error})"
        if found is not None and misfit is None:
            return found
        del self._results[frame.stream]
        if misfit is not None:
            kept = self._kept[frame.stream]
            kept.misfit = f"{kept.path} {misfit}; begin anew without --resume"
        return None


def _misfit(frame: Frame, result: FrameResult) -> str | None:
    ours = (frame.index, published_pts(frame), frame.width, frame.height)
    theirs = (result.frame, result.pts, result.width, result.height)
    if ours == theirs:
        return None
    return (
        f"is of another source or of other options: it has frame {result.frame} at {result.pts} s in "
        f"{result.width}x{result.height}, not frame {frame.index} at {published_pts(frame)} s in "
        f"{frame.width}x{frame.height}"
    )
