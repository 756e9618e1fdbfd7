"""A worker of a cluster: it has one engine, for one device, and reads the cameras that it is ordered to.

    controller  <-- Report, Orders once a second -->  CameraWorker  <-- socket -->  engine

What a worker has ends with its engine: the controller gives it out anew, with higher epochs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import redis

from streamseg.config import RunConfig, parse_config
from streamseg.redis.brokers import Brokers
from streamseg.redis.trouble import delays
from streamseg.scale.control import Failed, FromEngine, Numbers, Opened, OutputFailed, Ready, WantedStream
from streamseg.scale.engine_process import EngineProcess
from streamseg.scale.roster import LEASE_SECONDS, RENEW_SECONDS, Report

logger = logging.getLogger(__name__)

_END_SECONDS = 12.0
"""An engine that is told to stop does so within 10 s."""
UNHEARD_EPOCHS = 100
"""Without Redis, how far above the newest epoch that was heard of a new owner begins: the former may have
opened the camera again and again since its last report."""
_REFUSED_SECONDS = 10.0
"""A camera that another engine owns although it is ours is claimed again after that: two clusters that both
want it must not take it from each other with every frame."""


class ControllerAwayError(Exception):
    """The controller gives no answer."""


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is to do from now on."""

    version: int
    """Of the configuration."""
    cameras: Mapping[str, int | None]
    """All that it is to read, and the newest epoch known of each."""
    streams: Mapping[str, dict[str, Any]]
    """Keys of :class:`streamseg.config.StreamConfig` of those that are news to the worker."""
    config: dict[str, Any] | None = None
    """Keys of the configuration without its streams, if the worker has another version."""
    began: float = 0.0
    """UNIX seconds when the cluster began with this work."""


Ask = Callable[[Report, int], Orders]
"""Gives a report and the version of the worker's configuration to the controller; raises
ControllerAwayError."""


@dataclass(slots=True)
class _Camera:
    config: dict[str, Any]
    first_epoch: int
    epoch: int
    began: float
    state: str = "connecting"
    frames: int = 0
    opened: bool = False
    """Whether the engine has opened it since it was claimed: older news are of its life before."""

    def wanted(self) -> WantedStream:
        config = {**self.config, "first_epoch": self.first_epoch}
        return WantedStream(config, first_epoch=self.first_epoch, since=self.began)


@dataclass(slots=True)
class _Engine:
    process: EngineProcess
    capacity: float | None = None
    """Frames per second; None until it is ready."""
    trouble: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def end(self) -> None:
        """Finish what is written, and exit; by force after a while."""
        self.process.stop()
        if not self.ended.wait(_END_SECONDS):
            self.process.kill()


@dataclass(slots=True)
class _State:
    """What the worker's threads share, behind one lock."""

    version: int = -1
    config: RunConfig | None = None
    base: dict[str, Any] = field(default_factory=dict)
    engine: _Engine | None = None
    cameras: dict[str, _Camera] = field(default_factory=dict)
    refused: dict[str, float] = field(default_factory=dict)
    """Cameras that another engine owns, and when that was found out."""
    trouble: str = ""


class CameraWorker:
    """Reads what the controller orders until :meth:`stop`."""

    def __init__(
        self, id_: str, *, device: str, place: str, ask: Ask, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare; nothing runs before :meth:`start`.

        Args:
            id_: Of the worker.
            device: For its engine.
            place: Machine and device, for people.
            ask: How it reaches the controller.
            clock: In seconds.
        """
        self._id, self._device, self._place = id_, device, place
        self._ask, self._clock = ask, clock
        self._state, self._lock = _State(), threading.Lock()
        self._brokers = Brokers(())
        self._delays, self._retry_at = delays(), 0.0
        self._lease, self._answered = LEASE_SECONDS, clock()
        """When the last report was sent that was answered."""
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to report and to obey, in threads of its own."""
        for name, run in (("worker-reports", self._report_always), ("worker-lease", self._watch_lease)):
            threading.Thread(target=run, name=name, daemon=True).start()

    def stop(self) -> None:
        """End all cameras, finish what is written and end the engine; within about 12 s."""
        self._stopping.set()
        with self._lock:
            engine = self._state.engine
        if engine is not None:
            engine.end()

    def turn(self) -> None:
        """Report once, and do what is ordered."""
        sent = self._clock()
        orders = self._ask(self._report(), self._state.version)
        self._answered = sent
        self._obey(orders)

    def _report_always(self) -> None:
        while not self._stopping.wait(RENEW_SECONDS):
            try:
                self.turn()
            except ControllerAwayError as error:
                logger.info("the controller gives no answer: %s", error)
            except Exception:  # the worker has to go on with what it has
                logger.exception("worker %s cannot do what was ordered", self._id)

    def _watch_lease(self) -> None:
        """Redis decides who owns a camera, or else the lease: then the engine ends with it."""
        while not self._stopping.wait(RENEW_SECONDS / 4):
            if self._clock() - self._answered > self._lease and not len(self._brokers):
                with self._lock:
                    engine = self._state.engine if self._state.cameras else None
                if engine is not None:
                    engine.process.kill(f"was ended: no controller for {self._lease:g} s")

    def _report(self) -> Report:
        with self._lock:
            state = self._state
            engine = state.engine
            return Report(
                self._id,
                self._place,
                capacity=None if engine is None else engine.capacity,
                held={stream: camera.epoch for stream, camera in state.cameras.items()},
                states={stream: camera.state for stream, camera in state.cameras.items()},
                frames=sum(camera.frames for camera in state.cameras.values()),
                trouble=state.trouble,
            )

    def _obey(self, orders: Orders) -> None:
        if orders.config is not None and orders.config != self._state.base:
            self._configure(orders.config)
        if self._state.config is None:
            return
        if self._state.engine is None and self._clock() >= self._retry_at:
            self._start_engine(self._state.config)
        self._read(orders)

    def _configure(self, base: dict[str, Any]) -> None:
        """Another model, or other outputs: the engine begins anew."""
        config = parse_config(base, where="controller")
        with self._lock:
            engine = self._state.engine
            self._state.base, self._state.config = base, config
            if engine is not None:
                engine.capacity = None  # it gets nothing more to read
        self._brokers = Brokers.of(config)
        if engine is not None:  # beside our reports, which must not stop meanwhile
            threading.Thread(target=engine.end, name="worker-end", daemon=True).start()

    def _start_engine(self, config: RunConfig) -> None:
        engine = _Engine(EngineProcess(config, self._device))
        try:
            engine.process.start()
        except OSError as error:
            self._engine_ended(engine, f"cannot be started: {error}")
            return
        with self._lock:
            self._state.engine = engine
        threading.Thread(target=self._listen, args=(engine,), name="worker-engine", daemon=True).start()

    def _read(self, orders: Orders) -> None:
        """Begin with cameras that are new, end those that are wanted no more."""
        with self._lock:
            state = self._state
            engine = state.engine
            if engine is None or engine.capacity is None:
                return
            held = {stream: state.cameras[stream] for stream in orders.cameras if stream in state.cameras}
            changed = len(held) < len(state.cameras)
            for stream in held.keys() & orders.streams.keys():
                changed = changed or held[stream].config != orders.streams[stream]
                held[stream].config = orders.streams[stream]
            fresh = [
                s for s in orders.cameras if s not in held and s in orders.streams and self._may_claim(s)
            ]
        begun = self._claim(fresh, orders)
        with self._lock:
            if state.engine is not engine:  # it has ended meanwhile
                return
            state.cameras = held | begun
            state.version = orders.version
            wanted = [camera.wanted() for camera in state.cameras.values()]
        if changed or begun:
            engine.process.set_streams(wanted)

    def _may_claim(self, stream: str) -> bool:
        return self._clock() - self._state.refused.get(stream, -1e9) >= _REFUSED_SECONDS

    def _claim(self, streams: list[str], orders: Orders) -> dict[str, _Camera]:
        """Become the owner of cameras: nobody else publishes them after this."""
        begun: dict[str, _Camera] = {}
        trouble = ""
        for stream in streams:
            known = orders.cameras[stream]
            try:
                first = self._brokers.claim(stream, at_least=0 if known is None else known + 1)
            except redis.RedisError as error:
                trouble = str(error)
                break  # the others would wait for the same broker
            if first is None:
                first = 0 if known is None else known + UNHEARD_EPOCHS
            begun[stream] = _Camera(orders.streams[stream], first, first, orders.began)
        with self._lock:
            self._state.trouble = trouble
        return begun

    def _listen(self, engine: _Engine) -> None:
        """Take what an engine tells, until it has ended; in a thread of its own."""
        for report in engine.process.reports():
            with self._lock:
                self._take(engine, report)
        self._engine_ended(engine, engine.trouble or f"its engine {engine.process.fate}")
        engine.process.close()
        engine.ended.set()

    def _take(self, engine: _Engine, report: FromEngine) -> None:
        cameras = self._state.cameras
        match report:
            case Ready(capacity=capacity):
                engine.capacity, self._state.trouble = capacity, ""
                self._delays = delays()
            case Opened(stream=stream, epoch=epoch) if stream in cameras:
                camera = cameras[stream]
                camera.opened = camera.opened or epoch >= camera.first_epoch
                camera.epoch = max(epoch, camera.epoch)
            case Numbers(streams=streams):
                for stream, numbers in streams.items():
                    if stream in cameras:
                        cameras[stream].state = numbers.state.value
                        cameras[stream].frames = numbers.results
                        # Not ended by us, or it would not be among ours.
                        if numbers.over and numbers.stopped and cameras[stream].opened:
                            self._refused(stream)
            case OutputFailed(error=error):
                logger.warning("worker %s: %s", self._id, error)
            case Failed(error=error):
                engine.trouble = error

    def _refused(self, stream: str) -> None:
        """Another engine owns a camera: the controller has to say whether it is ours."""
        del self._state.cameras[stream]
        self._state.refused[stream] = self._clock()

    def _engine_ended(self, engine: _Engine, why: str) -> None:
        logger.warning("worker %s: %s", self._id, why)
        self._retry_at = self._clock() + next(self._delays)
        with self._lock:
            state = self._state
            state.trouble = why
            state.cameras = {}
            state.version = -1
            if state.engine is engine:
                state.engine = None
