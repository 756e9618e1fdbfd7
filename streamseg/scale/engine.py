"""The engine's side: the ordinary program, whose streams are those that its owner wants."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
import threading
import traceback
from dataclasses import replace

from pydantic import ValidationError

from streamseg.config import RunConfig, StreamConfig, describe, parse_config
from streamseg.errors import ConfigError, StreamsegError, UsageError, mask_password
from streamseg.outputs.kept import KeptInstances
from streamseg.runtime.bench import measure_capacity
from streamseg.runtime.build import build_streams, load_model, pipeline_options
from streamseg.runtime.build_outputs import build_outputs
from streamseg.runtime.checks import check_blur, check_rules
from streamseg.runtime.pipeline import Pipeline
from streamseg.runtime.resume import go_on, take_over_stream
from streamseg.runtime.services import Services
from streamseg.runtime.stream_set import StreamSet
from streamseg.scale.control import (
    REPORT_SECONDS,
    Begin,
    Channel,
    Failed,
    Finish,
    Ready,
    Stop,
    StreamNumbers,
    Summary,
    ToEngine,
    Wanted,
    WantedStream,
    Written,
    engine_channel,
)
from streamseg.scale.reports import Reporter, numbers_of_files, opened
from streamseg.sources import Source
from streamseg.types import FrameResult, Output, StreamInfo, StreamState
from streamseg.zones import StreamRules

logger = logging.getLogger(__name__)


def serve_owner(fd: int) -> int:
    """Be an engine for the owner at the other end of the socket ``fd``; returns the exit code."""
    # Supervisors signal all processes of a service: what is to happen then, the owner says.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel = engine_channel(socket.socket(fileno=fd))
    try:
        stuck = _run(_Orders(channel), channel)
    except StreamsegError as error:
        channel.send(Failed(str(error), error.exit_code))
        return error.exit_code
    except Exception as error:  # noqa: BLE001  a bug, or a device that broke: the owner goes on without us
        logger.warning("%s", mask_password(traceback.format_exc()))
        text = mask_password(f"{type(error).__name__}: {error}")
        channel.send(Failed(" ".join(text.split()), 1))
        return 1
    channel.send(Summary())
    if stuck:
        os._exit(0)  # else Python would wait for the model
    return 0


class _Orders:
    """Hears the owner in a thread of its own, and ends the process at once when the owner is gone."""

    def __init__(self, channel: Channel[ToEngine]) -> None:
        self._channel = channel
        self._queue: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
        self.ready = False
        """Whether a stop can be obeyed in order; before, there is nothing to put in order."""
        threading.Thread(target=self._listen, name="owner", daemon=True).start()

    def next(self) -> ToEngine:
        """Wait for the next message."""
        return self._queue.get()

    def _listen(self) -> None:
        for order in self._channel:
            if isinstance(order, Stop) and not self.ready:
                os._exit(0)
            self._queue.put(order)
        os._exit(1)  # another engine may have our streams already: nothing may be written any more


def _run(orders: _Orders, channel: Channel[ToEngine]) -> bool:
    """From the first order to the last file; returns whether the model is still at work."""
    begin = orders.next()
    assert isinstance(begin, Begin), "the first message says what to be"
    config = parse_config(begin.config, where="engine")
    with Services(config) as services:
        engine = _Engine(config, several=begin.several, services=services, channel=channel)
        orders.ready = True
        with engine.pipeline as pipeline:
            threading.Thread(target=engine.obey, args=(orders,), name="orders", daemon=True).start()
            threading.Thread(target=engine.report, name="reports", daemon=True).start()
            pipeline.join()
        pipeline.raise_first_error()
        engine.tell_last()
    return pipeline.stuck


class _Engine:
    """A pipeline that stays, and whoever tells it and tells of it."""

    def __init__(
        self, config: RunConfig, *, several: bool, services: Services, channel: Channel[ToEngine]
    ) -> None:
        """Load the model and say that we are ready. Raises UsageError or RunError."""
        self._config, self._services, self._channel = config, services, channel
        rules: dict[str, StreamRules] = {}
        self._outputs = build_outputs(config, several=several, rules=rules)
        everything: list[Output] = [*self._outputs, *services.outputs]
        for output in everything:
            output.check([])
        model = load_model(config.model, meter=services.meter, max_batch=config.batching.max_batch)
        check_blur(config, model.classes)
        self._model = model.name
        self._kept = KeptInstances({})
        self.pipeline = Pipeline(
            [],
            model,
            everything,
            **pipeline_options(config),
            rules=rules,
            observe=self._observe,
            known=self._kept,
            meter=services.meter,
            stays=True,
        )
        services.attach(self.pipeline)
        self._wanted: dict[str, WantedStream] = {}
        self._streams = StreamSet(self.pipeline, add=self._add)
        self._reporter = Reporter(self.pipeline)
        self._lock = threading.Lock()
        """Streams do not come while it is looked at what is new of them."""
        self._last = False
        capacity = measure_capacity(model, max_batch=config.batching.max_batch)
        channel.send(Ready(capacity, model.name, model.classes, services.urls))

    def obey(self, orders: _Orders) -> None:
        """Do what the owner says, for ever."""
        while True:
            match orders.next():
                case Wanted(streams=streams):
                    with self._lock:
                        self._want(streams)
                case Finish():
                    self.pipeline.release()
                case Stop():
                    self.pipeline.stop()

    def report(self) -> None:
        """Tell the owner several times a second how it goes; to the end, also while outputs are finished."""
        while not self._last:
            with self._lock:
                self._streams.retry()
                news = list(self._reporter.news())
            for message in news:
                self._channel.send(message)
            threading.Event().wait(REPORT_SECONDS)

    def tell_last(self) -> None:
        """Tell what is left, when the pipeline has been left."""
        self._last = True
        with self._lock:
            news = list(self._reporter.last_news())
        for message in news:
            self._channel.send(message)

    def _observe(self, event: StreamInfo | FrameResult) -> None:
        self._services.observe(event)
        if isinstance(event, StreamInfo):
            self._channel.send(opened(event))

    def _want(self, streams: list[WantedStream]) -> None:
        """Bring the pipeline in line; a stream that cannot be read has failed, and disturbs no other."""
        found: list[tuple[Source, StreamRules]] = []
        self._wanted = {wanted.id: wanted for wanted in streams}
        for wanted in streams:
            try:
                found.append(self._stream(wanted))
            except UsageError as error:
                self._refuse(wanted.id, error)
        self._streams.apply(self._streams.compare(found))

    def _stream(self, wanted: WantedStream) -> tuple[Source, StreamRules]:
        try:
            stream = StreamConfig.model_validate(wanted.config)
        except ValidationError as error:
            raise ConfigError(describe(error, StreamConfig)) from error
        config = self._config.model_copy(update={"streams": (stream,)})
        check_rules(config, self.pipeline.classes)
        ((source, rules),) = build_streams(config)
        return replace(source, first_epoch=max(source.first_epoch, wanted.first_epoch)), rules

    def _add(self, source: Source) -> None:
        wanted = self._wanted[source.id]
        try:
            for output in self._outputs:
                output.check([source.id])
            kept = self._go_on(source, wanted.since)
        except UsageError as error:
            self._refuse(source.id, error)
            return
        if kept is None:
            self._channel.send(Written(source.id, numbers_of_files(source.id, self._outputs)))
            return
        self._reporter.begin(source.id)
        self.pipeline.add(source)
        self.pipeline.stats.streams[source.id].kept = kept

    def _go_on(self, source: Source, since: float | None) -> int | None:
        """Have outputs go on with what an earlier owner has begun.

        Returns the number of results that are kept, None if nothing is left to do. Raises UsageError.
        """
        if since is None:
            return 0
        if not source.recorded:
            go_on(source.id, self._outputs, since=since)
            return 0
        kept = take_over_stream(source, self._outputs, model=self._model, since=since)
        if kept is None:
            return None
        if kept.lines:
            self._kept.add(source.id, kept)
        return kept.lines

    def _refuse(self, stream: str, error: UsageError) -> None:
        state = StreamState.FAILED
        numbers = StreamNumbers(state=state, error=str(error), ended=True, over=True)
        self._channel.send(Written(stream, numbers))
