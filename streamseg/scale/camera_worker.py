"""A worker of a cluster: it has one engine, for one device, and reads the cameras that it is ordered to.

    controller  <-- Report, Orders once a second -->  CameraWorker  <-- socket -->  engine

What a worker has ends with its engine: the controller gives it out anew, with higher epochs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import redis

from streamseg.config import RunConfig, parse_config
from streamseg.redis.brokers import Brokers
from streamseg.redis.trouble import delays
from streamseg.scale.control import Ready
from streamseg.scale.engine_process import EngineProcess
from streamseg.scale.handle import SILENT_SECONDS
from streamseg.scale.holding import HeldCamera, HeldEngine, Holding
from streamseg.scale.orders import Ask, ControllerAwayError, Orders
from streamseg.scale.roster import LEASE_SECONDS, RENEW_SECONDS
from streamseg.web.access import is_loopback

logger = logging.getLogger(__name__)

UNHEARD_EPOCHS = 100
"""Without Redis, how far above the newest epoch that was heard of a new owner begins: the former may have
opened the camera again and again since its last report."""
_LATE_SECONDS = 5.0
"""Between two looks that are to be a fraction of a second apart."""


class CameraWorker:
    """Reads what the controller orders until :meth:`stop`."""

    def __init__(
        self,
        id_: str,
        *,
        device: str,
        place: str,
        ask: Ask,
        address: str = "127.0.0.1",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing runs before :meth:`start`.

        Args:
            id_: Of the worker.
            device: For its engine.
            place: Machine and device, for people.
            ask: How it reaches the controller.
            address: Of the machine, for whoever reads the engine's metrics.
            clock: In seconds.
        """
        self._id, self._device, self._place, self._address = id_, device, place, address
        self._ask, self._clock = ask, clock
        self._has, self._lock = Holding(clock), threading.Lock()
        """The engine and the cameras, for all threads; what is below belongs to the one that reports."""
        self._version = -1
        """Of the work that the cameras are held to."""
        self._config: RunConfig | None = None
        self._base: dict[str, Any] = {}
        """Keys of the configuration."""
        self._brokers = Brokers(())
        self._delays, self._retry_at = delays(), 0.0
        self._lease, self._answered = LEASE_SECONDS, clock()
        """When the last report was sent that was answered."""
        self._silent = SILENT_SECONDS
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to report and to obey, in threads of its own."""
        for name, run in (("worker-reports", self._report_always), ("worker-watch", self._watch_always)):
            threading.Thread(target=run, name=name, daemon=True).start()

    def stop(self) -> None:
        """End all cameras, finish what is written and end the engine; within about 12 s."""
        self._stopping.set()
        with self._lock:
            engine = self._has.engine
        if engine is not None:
            engine.end()

    def turn(self) -> None:
        """Report once, and do what is ordered."""
        sent = self._clock()
        with self._lock:
            report = self._has.report(self._id, self._place, metrics=self._metrics())
        orders = self._ask(report, self._version)
        self._answered = sent
        self._obey(orders)

    def _metrics(self) -> str | None:
        """Where the engine serves its metrics, for other machines if they may read them."""
        if self._config is None or self._has.engine is None or (url := self._has.engine.metrics) is None:
            return None
        host = self._config.metrics.host
        return url if is_loopback(host) else url.replace("127.0.0.1", self._address)

    def _report_always(self) -> None:
        """Once a second, however long an answer takes: one that was lost is made up for at once."""
        began = -RENEW_SECONDS
        while not self._stopping.wait(max(0.0, began + RENEW_SECONDS - time.monotonic())):
            began = time.monotonic()
            try:
                self.turn()
            except ControllerAwayError as error:
                logger.info("the controller gives no answer: %s", error)
            except Exception:  # the worker has to go on with what it has
                logger.exception("worker %s cannot do what was ordered", self._id)

    def _watch_always(self) -> None:
        looked_at = self._clock()
        while not self._stopping.wait(RENEW_SECONDS / 4):
            now = self._clock()
            with self._lock:
                engine, cameras = self._has.engine, bool(self._has.cameras)
            if engine is not None:
                if now - looked_at > _LATE_SECONDS:  # this process was stopped, and heard nobody
                    engine.heard_at = now
                self._end_if_due(engine, now, cameras=cameras)
            looked_at = now

    def _end_if_due(self, engine: HeldEngine, now: float, *, cameras: bool) -> None:
        if engine.capacity is not None and now - engine.heard_at > self._silent:
            engine.process.kill(f"said nothing for {self._silent:g} s")
        # Redis decides who owns a camera, or else the lease: then the engine ends with it.
        if cameras and now - self._answered > self._lease and not len(self._brokers):
            engine.process.kill(f"was ended: no controller for {self._lease:g} s")

    def _obey(self, orders: Orders) -> None:
        if orders.config is not None and orders.config != self._base:
            self._configure(orders.config)
        if self._config is None:
            return
        if self._has.engine is None and self._clock() >= self._retry_at:
            self._start_engine(self._config)
        self._read(orders)

    def _configure(self, base: dict[str, Any]) -> None:
        """Another model, or other outputs: the engine begins anew."""
        config = parse_config(base, where="controller")
        self._base, self._config = base, config
        with self._lock:
            engine = self._has.engine
            if engine is not None:
                engine.capacity = None  # it gets nothing more to read
        self._brokers = Brokers.of(config)
        if engine is not None:  # beside our reports, which must not stop meanwhile
            threading.Thread(target=engine.end, name="worker-end", daemon=True).start()

    def _start_engine(self, config: RunConfig) -> None:
        engine = HeldEngine(EngineProcess(config, self._device))
        try:
            engine.process.start()
        except OSError as error:
            self._engine_ended(engine, f"cannot be started: {error}")
            return
        with self._lock:
            self._has.engine = engine
        threading.Thread(target=self._listen, args=(engine,), name="worker-engine", daemon=True).start()

    def _read(self, orders: Orders) -> None:
        """Begin with cameras that are new, end those that are wanted no more; others are not disturbed."""
        with self._lock:
            has = self._has
            engine = has.engine
            if engine is None or engine.capacity is None:
                return
            held = {stream: has.cameras[stream] for stream in orders.cameras if stream in has.cameras}
            changed = len(held) < len(has.cameras)
            for stream in held.keys() & orders.streams.keys():
                changed = changed or held[stream].config != orders.streams[stream]
                held[stream].config = orders.streams[stream]
            fresh = [s for s in orders.cameras if s not in held and s in orders.streams and has.may_claim(s)]
        begun = self._claim(fresh, orders)
        with self._lock:
            if has.engine is not engine:  # it has ended meanwhile
                return
            has.cameras = held | begun
            self._version = orders.version
            wanted = [camera.wanted() for camera in has.cameras.values()]
        if changed or begun:
            engine.process.set_streams(wanted)

    def _claim(self, streams: list[str], orders: Orders) -> dict[str, HeldCamera]:
        """Become the owner of cameras: nobody else publishes them after this."""
        begun: dict[str, HeldCamera] = {}
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
            begun[stream] = HeldCamera(orders.streams[stream], first, orders.began)
        with self._lock:
            self._has.trouble = trouble
        return begun

    def _listen(self, engine: HeldEngine) -> None:
        """Take what an engine tells, until it has ended; in a thread of its own."""
        for news in engine.process.reports():
            with self._lock:
                self._has.take(engine, news)
            if isinstance(news, Ready):
                self._delays = delays()
        self._engine_ended(engine, engine.trouble or f"its engine {engine.process.fate}")
        engine.process.close()
        engine.ended.set()

    def _engine_ended(self, engine: HeldEngine, why: str) -> None:
        logger.warning("worker %s: %s", self._id, why)
        self._retry_at = self._clock() + next(self._delays)
        with self._lock:
            self._has.lose(engine, why)
            self._version = -1
