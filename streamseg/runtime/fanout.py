"""All outputs of a run at once: what is said to one is said to each, behind its own queue."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from streamseg.errors import StreamsegError
from streamseg.outputs import OutputQueue
from streamseg.types import Frame, FrameResult, Instances, Meter, Output, StreamInfo

_STUCK_SECONDS = 130.0
"""An output that writes nothing for this long at the end is given up; Redis alone may wait for 120 s."""


class Outputs:
    """The queues of all outputs; no method but :meth:`finish` waits for any of them."""

    def __init__(
        self,
        outputs: Sequence[Output],
        *,
        on_error: Callable[[StreamsegError], None],
        meter: Meter | None = None,
    ) -> None:
        """``on_error`` hears of the first error of each stream and output, in the output's thread."""
        self._queues = [OutputQueue(output, on_error=on_error, meter=meter) for output in outputs]

    def open(self, info: StreamInfo) -> None:
        """Announce a stream, or its next epoch."""
        for queue in self._queues:
            queue.open(info)

    def put(self, result: FrameResult, frame: Frame, instances: Instances) -> None:
        """Hand on one frame's result; its stream has been opened."""
        for queue in self._queues:
            queue.put(result, frame, instances)

    def close(self, stream: str, *, complete: bool, cut_short: bool = False) -> None:
        """Finish a stream; not ``complete`` when its source failed, ``cut_short`` if it has more to give."""
        for queue in self._queues:
            queue.close(stream, complete=complete, cut_short=cut_short)

    def report(self, stream: str, **fields: str | float) -> None:
        """Tell of a stream what only the pipeline knows."""
        for queue in self._queues:
            queue.report(stream, **fields)

    def report_drops(self, stream: str, before: int) -> None:
        """Tell of ``before`` frames that were dropped on their way here; each output adds its own."""
        for queue in self._queues:
            queue.report(stream, dropped=before + queue.dropped.get(stream, 0))

    def lengths(self) -> dict[str, int]:
        """Results that wait, by the name of the output; those of one name together."""
        lengths: Counter[str] = Counter()
        for queue in self._queues:
            lengths[queue.name] += len(queue)
        return dict(lengths)

    @property
    def dropped_any(self) -> bool:
        """Whether an output has dropped results because it was too slow."""
        return any(queue.dropped for queue in self._queues)

    def take_any(self, streams: Iterable[str]) -> bool:
        """Whether results of any of these streams still find their way out somewhere."""
        return any(queue.takes(stream) for stream in streams for queue in self._queues)

    def hurry(self, patience: float) -> None:
        """The user has stopped the run: no output shall wait for a peer for longer than that, in seconds."""
        for queue in self._queues:
            queue.hurry(patience)

    def finish(self, *, abort: bool, deadline: Callable[[], float]) -> None:
        """Let every output write what waits (or discard it), finish its files and end.

        ``deadline`` says when the rest is given up at the latest, on the monotonic clock.
        """
        for queue in self._queues:
            queue.end()  # all at once: none waits for another to finish
        for queue in self._queues:
            if abort:
                queue.abort()
            else:
                queue.finish(_STUCK_SECONDS, deadline=deadline)

    def dropped(self) -> list[tuple[str, str, int]]:
        """Name of the output, stream and number of results dropped."""
        return [(q.name, stream, count) for q in self._queues for stream, count in q.dropped.items()]
