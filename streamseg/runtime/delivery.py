"""All outputs of a run as one: every call goes to each of them, behind a backlog of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from streamseg.errors import StreamsegError
from streamseg.outputs.backlog import StreamBacklog
from streamseg.outputs.health import OutputHealth
from streamseg.outputs.runner import OutputRunner
from streamseg.types import Meter, Output, StreamEnd, StreamInfo

_STUCK_SECONDS = 130.0
"""An output that writes nothing for this long at the end is given up; Redis alone may wait for 120 s."""


class Outputs:
    """The runners of all outputs; no method but :meth:`finish` waits for any of them."""

    def __init__(
        self,
        outputs: Sequence[Output],
        *,
        on_error: Callable[[StreamsegError], None],
        meter: Meter | None = None,
    ) -> None:
        """``on_error`` hears of the first error of each stream and output, in the output's thread."""
        self.runners: list[OutputRunner] = []
        taken: Counter[str] = Counter()
        for output in outputs:
            name = type(output).__name__
            taken[name] += 1
            unique = name if taken[name] == 1 else f"{name}-{taken[name]}"
            self.runners.append(OutputRunner(output, on_error=on_error, name=unique, meter=meter))

    def start(self) -> None:
        """Begin to work."""
        for runner in self.runners:
            runner.start()

    def open(self, info: StreamInfo) -> list[StreamBacklog]:
        """Announce a stream: its backlog at each output, in the order of :attr:`runners`."""
        return [runner.open(info) for runner in self.runners]

    def close(self, backlogs: Sequence[StreamBacklog], end: StreamEnd) -> None:
        """Finish a stream at each output; those that close last do so behind the others.

        A run that is killed after the one and before the other is gone on with by ``--resume``.
        """
        pairs = list(zip(self.runners, backlogs, strict=False))
        others = [backlog for runner, backlog in pairs if not runner.closes_last]
        for runner, backlog in pairs:
            backlog.close(end, behind=others if runner.closes_last else ())

    def report(self, stream: str, **fields: str | float) -> None:
        """Tell of a stream what only the run knows."""
        for runner in self.runners:
            runner.report(stream, **fields)

    def lengths(self) -> dict[str, int]:
        """Results that wait, by the name of the output."""
        return {runner.name: len(runner) for runner in self.runners}

    def health(self) -> list[OutputHealth]:
        """How each output does."""
        return [runner.health() for runner in self.runners]

    @property
    def gone(self) -> bool:
        """Whether no output takes results any more."""
        return all(runner.gone for runner in self.runners)

    def hurry(self, patience: float) -> None:
        """The user has stopped the run: no output waits for a peer for longer than that, in seconds."""
        for runner in self.runners:
            runner.hurry(patience)

    def finish(self, *, abort: bool, deadline: Callable[[], float]) -> None:
        """Let every output write what waits (or discard it), finish its files and end.

        ``deadline`` says when the rest is given up at the latest, on the monotonic clock.
        """
        for runner in self.runners:
            runner.end()  # all at once: none waits for another to finish
        for runner in sorted(self.runners, key=lambda runner: runner.closes_last):
            if abort:
                runner.abort()
            else:
                runner.finish(_STUCK_SECONDS, deadline=deadline)
