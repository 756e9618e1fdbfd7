"""Which engine has which stream.

Cameras are divided by capacity and stay where they are as far as that is fair (see
:mod:`streamseg.scale.assignment`). Recordings are pulled: an engine has as many as keep it busy, and gets the
next one when it is done with one.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from streamseg.scale.assignment import assign
from streamseg.sources.pool import RECORDED_WORKERS

MOST_LOSSES = 3
"""Engines that may die while they read a recording: after the last one it is taken for the cause."""
_DECODER_RATE = 100.0
"""Frames/s that one decoder gives at least, of 1080p on one core: a faster network needs more of them."""


@dataclass(slots=True)
class _Camera:
    owner: int | None = None
    leaving: bool = False
    """Whether its owner finishes its files, so that another one may have it."""


@dataclass(slots=True)
class _Engine:
    capacity: float
    files: set[str] = field(default_factory=set)

    @property
    def room(self) -> int:
        return recordings_at_once(self.capacity)


def recordings_at_once(capacity: float) -> int:
    """How many recordings keep an engine busy: one more than it reads at a time.

    ``capacity``: frames per second of its network.
    """
    return min(RECORDED_WORKERS, 1 + int(capacity / _DECODER_RATE)) + 1


class Division:
    """Gives streams to engines. One thread at a time."""

    def __init__(self) -> None:
        self._engines: dict[int, _Engine] = {}
        self._cameras: dict[str, _Camera] = {}
        self._queue: deque[str] = deque()
        """Recordings that nobody has."""
        self._losses: Counter[str] = Counter()

    def join(self, engine: int, capacity: float) -> None:
        """An engine takes streams; ``capacity`` in frames per second."""
        self._engines[engine] = _Engine(capacity)

    def leave(self, engine: int) -> None:
        """An engine takes no more streams. What it has is either finished there or :meth:`lost`."""
        self._engines.pop(engine, None)
        for stream in [stream for stream, camera in self._cameras.items() if camera.owner == engine]:
            del self._cameras[stream]

    def lost(self, stream: str, *, recorded: bool, begun: bool = True) -> bool:
        """The engine of a stream is gone: another is to have it, before all that wait.

        Returns False for a recording over which so many engines have died that no other may have it; one
        that was dead before it had ``begun`` with it does not count.
        """
        if not recorded:
            self._cameras[stream] = _Camera()
            return True
        self._losses[stream] += begun
        if self._losses[stream] >= MOST_LOSSES:
            return False
        self._queue.appendleft(stream)
        return True

    def add(self, stream: str, *, recorded: bool) -> None:
        """A stream that somebody is to read."""
        if recorded:
            self._queue.append(stream)
        else:
            self._cameras[stream] = _Camera()

    def turned_out(self, stream: str, *, engine: int, live: bool) -> None:
        """Only now it is known whether a stream is a camera or a recording; it stays where it is."""
        if (owner := self._engines.get(engine)) is None:
            return
        if live and stream in owner.files:
            owner.files.discard(stream)
            self._cameras[stream] = _Camera(engine)
        elif not live and self._cameras.pop(stream, None) is not None:
            owner.files.add(stream)

    def remove(self, stream: str) -> None:
        """A stream that nobody is to read any more."""
        self._cameras.pop(stream, None)
        if stream in self._queue:
            self._queue.remove(stream)
        for engine in self._engines.values():
            engine.files.discard(stream)

    def left(self, stream: str) -> bool:
        """The owner has finished with a stream; returns whether that was so that another may have it."""
        camera = self._cameras.get(stream)
        if camera is None or not camera.leaving:
            return False
        self._cameras[stream] = _Camera()
        return True

    def divide(self) -> dict[int, set[str]]:
        """What each engine is to read now."""
        self._divide_cameras()
        self._pull()
        wanted = {number: set(engine.files) for number, engine in self._engines.items()}
        for stream, camera in self._cameras.items():
            if camera.owner is not None and not camera.leaving:
                wanted[camera.owner].add(stream)
        return wanted

    def _divide_cameras(self) -> None:
        held = {s: str(camera.owner) for s, camera in self._cameras.items() if camera.owner is not None}
        capacities = {str(number): engine.capacity for number, engine in self._engines.items()}
        for stream, owner in assign(self._cameras, capacities, held).items():
            camera = self._cameras[stream]
            if camera.owner is None:
                camera.owner = int(owner)
            else:
                camera.leaving = camera.leaving or camera.owner != int(owner)

    def _pull(self) -> None:
        """Give waiting recordings to the engines that need one most."""
        while self._queue:
            takers = [engine for engine in self._engines.values() if self._may_have(engine, self._queue[0])]
            if not takers:
                return
            taker = min(takers, key=lambda engine: (len(engine.files) + 1) / engine.capacity)
            taker.files.add(self._queue.popleft())

    def _may_have(self, engine: _Engine, stream: str) -> bool:
        """Who has its last chance has it alone: no other recording is to be lost with it."""
        if self._losses[stream] >= MOST_LOSSES - 1:
            return not engine.files
        alone = any(self._losses[other] >= MOST_LOSSES - 1 for other in engine.files)
        return not alone and len(engine.files) < engine.room
