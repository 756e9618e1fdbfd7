"""What a worker of a cluster has: its engine, and the cameras that the engine reads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from streamseg.scale.control import Failed, FromEngine, Numbers, Opened, OutputFailed, Ready, WantedStream
from streamseg.scale.engine_process import EngineProcess
from streamseg.scale.roster import Report

logger = logging.getLogger(__name__)

_REFUSED_SECONDS = 10.0
"""A camera that another engine owns although it is ours is claimed again after that: two clusters that both
want it must not take it from each other with every frame."""


@dataclass(slots=True)
class HeldCamera:
    """A camera that was claimed."""

    config: dict[str, Any]
    """Keys of :class:`streamseg.config.StreamConfig`."""
    first_epoch: int
    began: float
    """UNIX seconds when the cluster began with it."""
    epoch: int = -1
    """Newest that was opened."""
    state: str = "connecting"
    frames: int = 0
    opened: bool = False
    """Whether the engine has opened it since it was claimed: older news are of its life before."""

    def wanted(self) -> WantedStream:
        """As the engine is told."""
        config = {**self.config, "first_epoch": self.first_epoch}
        return WantedStream(config, first_epoch=self.first_epoch, since=self.began)


@dataclass(slots=True)
class HeldEngine:
    """The engine of a worker."""

    process: EngineProcess
    capacity: float | None = None
    """Frames per second; None until it is ready, and when it is about to end."""
    metrics: str | None = None
    """Where it serves its metrics, if it does."""
    heard_at: float = 0.0
    """When it told something last."""
    trouble: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        """Finish what is written, and exit; by force after a while."""
        self.process.end(self.ended)


@dataclass(slots=True)
class Holding:
    """What a worker has now. One thread at a time."""

    clock: Callable[[], float]
    """In seconds."""
    engine: HeldEngine | None = None
    cameras: dict[str, HeldCamera] = field(default_factory=dict)
    trouble: str = ""
    """Why the worker does not do what it is asked."""
    _refused: dict[str, float] = field(default_factory=dict)
    """Cameras that another engine owns, and when that was found out."""

    def report(self, worker: str, place: str, *, metrics: str | None) -> Report:
        """For the controller."""
        engine = self.engine
        return Report(
            worker,
            place,
            capacity=None if engine is None else engine.capacity,
            held={stream: max(camera.epoch, camera.first_epoch) for stream, camera in self.cameras.items()},
            states={stream: camera.state for stream, camera in self.cameras.items()},
            frames=sum(camera.frames for camera in self.cameras.values()),
            trouble=self.trouble,
            metrics=metrics,
        )

    def may_claim(self, stream: str) -> bool:
        """Whether no other engine was found to own it just now."""
        return self.clock() - self._refused.get(stream, -1e9) >= _REFUSED_SECONDS

    def take(self, engine: HeldEngine, news: FromEngine) -> None:
        """What the engine tells."""
        engine.heard_at = self.clock()
        match news:
            case Ready(capacity=capacity, urls=urls):
                engine.capacity, engine.metrics, self.trouble = capacity, next(iter(urls), None), ""
            case Opened(stream=stream, epoch=epoch) if stream in self.cameras:
                camera = self.cameras[stream]
                camera.opened = camera.opened or epoch >= camera.first_epoch
                camera.epoch = max(epoch, camera.epoch)
            case Numbers():
                self._take_numbers(news)
            case OutputFailed(error=error):
                logger.warning("%s", error)
            case Failed(error=error):
                engine.trouble = error

    def _take_numbers(self, news: Numbers) -> None:
        for stream, numbers in news.streams.items():
            if (camera := self.cameras.get(stream)) is None:
                continue
            camera.state, camera.frames = numbers.state.value, numbers.results
            # Not ended by us, or it would not be among ours: another engine owns it, and the controller has
            # to say whether it is ours.
            if numbers.over and numbers.stopped and camera.opened:
                del self.cameras[stream]
                self._refused[stream] = self.clock()

    def lose(self, engine: HeldEngine, why: str) -> None:
        """The engine has ended, and all cameras with it."""
        self.trouble, self.cameras = why, {}
        if self.engine is engine:
            self.engine = None
