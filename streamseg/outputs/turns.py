"""Which stream of an output is next: streams take turns, step by step, so that none waits behind another."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable

from streamseg.outputs.backlog import StreamBacklog


class Turns:
    """The streams of one output that are not over, and the order of their turns.

    Its methods are called with the lock held that the backlogs share. A thread that waits on it is woken when
    a stream is ready, all are when the last stream is over.
    """

    def __init__(self, lock: threading.Condition, *, before_ready: Callable[[], None]) -> None:
        """``before_ready`` is called before a thread is woken."""
        self.backlogs: list[StreamBacklog] = []
        """Of the streams that are not over."""
        self.ready: deque[StreamBacklog] = deque()
        """Those with something to do and no thread at it, in the order of their turns."""
        self.dropped: Counter[str] = Counter()
        """Results not written, of streams that are over."""
        self._lock, self._before_ready = lock, before_ready
        self._lost = 0

    @property
    def lost(self) -> int:
        """Results discarded because the output had failed or was aborted, of all streams."""
        return self._lost + sum(backlog.lost for backlog in self.backlogs)

    def begin(self, backlog: StreamBacklog) -> None:
        """Take a stream in; one of the same id that was here before is finished first."""
        same = [other for other in self.backlogs if other.stream == backlog.stream]
        backlog.predecessor = same[-1] if same else None
        self.backlogs.append(backlog)
        self.schedule(backlog)

    def newest(self, stream: str) -> StreamBacklog | None:
        """The last stream of that id, unless it is over."""
        return next((backlog for backlog in reversed(self.backlogs) if backlog.stream == stream), None)

    def schedule(self, backlog: StreamBacklog) -> None:
        """Give a stream its next turn if there is something to do; forget it if there never will be."""
        if backlog.scheduled or backlog.predecessor is not None:
            return
        if backlog.has_steps:
            backlog.scheduled = True
            self.ready.append(backlog)
            self._before_ready()
            self._lock.notify()
        elif backlog.closed and not backlog.waits and backlog in self.backlogs:
            self._remove(backlog)

    def discard(self, backlogs: list[StreamBacklog], *, writing: bool, ending: bool) -> None:
        """Let streams end as failed.

        ``writing``: the results being written are lost, too; ``ending``: no more results will come.
        """
        for backlog in list(backlogs):
            backlog.discard(writing=writing)
            backlog.closed = backlog.closed or ending
            self.schedule(backlog)

    def _remove(self, backlog: StreamBacklog) -> None:
        self.backlogs.remove(backlog)
        backlog.leave()
        self._lost += backlog.lost
        self.dropped[backlog.stream] += backlog.dropped + backlog.lost
        for successor in self.backlogs:
            if successor.predecessor is backlog:
                successor.predecessor = None
                self.schedule(successor)
        if not self.backlogs:
            self._lock.notify_all()
