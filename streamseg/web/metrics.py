"""Metrics in the format of Prometheus, and whether the program lives and is ready."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamseg.types import FrameResult, StreamInfo, StreamState
from streamseg.web.access import Access

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every first, of no use here

_LATENCY = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
_STAGE = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_STUCK_SECONDS = 60.0
"""Frames wait and none is finished for so long: no progress. A large batch on a slow CPU takes ten."""


class StreamCounts(Protocol):
    """What a run counts of a stream."""

    @property
    def results(self) -> int:
        """Frames with a result."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """Frames without one, by reason."""

    @property
    def reconnects(self) -> int:
        """How often it was opened again."""

    @property
    def state(self) -> StreamState:
        """Where it stands."""

    @property
    def waiting(self) -> int:
        """Frames on their way through the pipeline."""

    @property
    def damaged(self) -> int:
        """Frames that could not be decoded or were patched up."""

    @property
    def packets(self) -> int:
        """Packets of a live stream that were lost."""


class OutputState(Protocol):
    """How an output does."""

    @property
    def name(self) -> str:
        """Differs from that of any other."""

    @property
    def trouble(self) -> str | None:
        """Why it does not write its results; None while it does."""

    @property
    def dropped(self) -> Mapping[str, int]:
        """Results it did not write, by stream."""

    @property
    def errors(self) -> int:
        """How often it failed."""

    @property
    def missed(self) -> Mapping[tuple[str, str], int]:
        """Results that it wrote and that were gone before a reader had them, by stream and reader."""


class RunMetrics:
    """The run's meter: histograms of stages, batches and latencies. All methods in any thread."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.progress = time.monotonic()
        """When the last result came, in monotonic seconds."""
        self._latency = Histogram(
            "streamseg_latency_seconds",
            "From decoding a frame to its result.",
            ["stream"],
            buckets=_LATENCY,
            registry=self.registry,
        )
        self._batch = Histogram(
            "streamseg_batch_size",
            "Frames that the network took together.",
            buckets=_BATCH,
            registry=self.registry,
        )
        self._stages = Histogram(
            "streamseg_stage_seconds",
            "Time of one piece of work: a frame in decode, finish and publish, a batch in the others.",
            ["stage"],
            buckets=_STAGE,
            registry=self.registry,
        )

        self._inside = Gauge(
            "streamseg_zone_objects",
            "Objects in a zone.",
            ["stream", "zone"],
            registry=self.registry,
        )
        self._events = Counter(
            "streamseg_zone_events",
            "Objects that entered a zone, left it, or stayed in it for its dwell time.",
            ["stream", "zone", "event"],
            registry=self.registry,
        )
        self._crossings = Counter(
            "streamseg_line_crossings",
            "Objects that crossed a line.",
            ["stream", "line", "direction"],
            registry=self.registry,
        )

    def observe(self, event: StreamInfo | FrameResult) -> None:
        """Hear of a result."""
        if isinstance(event, FrameResult):
            self.progress = time.monotonic()
            self._latency.labels(event.stream).observe(event.latency_ms / 1000)
            self._count(event)

    def _count(self, result: FrameResult) -> None:
        for name, count in (result.counts or {}).items():
            if isinstance(count, int):
                self._inside.labels(result.stream, name).set(count)
        for told in result.events or ():
            if told.zone is not None:
                self._events.labels(told.stream, told.zone, told.event).inc()
            elif told.line is not None and told.direction is not None:
                self._crossings.labels(told.stream, told.line, told.direction).inc()

    def batch(self, size: int) -> None:
        """A batch of ``size`` frames goes to the network."""
        self._batch.observe(size)

    def stage(self, name: str, seconds: float) -> None:
        """A stage took so long: decode, preprocess, forward, postprocess, finish or publish."""
        self._stages.labels(name).observe(seconds)


class RunCollector(Collector):
    """Reads the run's own counts whenever somebody asks: they are exact, and kept once."""

    def __init__(
        self,
        streams: Callable[[], Mapping[str, StreamCounts]],
        queues: Callable[[], Mapping[str, int]],
        outputs: Callable[[], Sequence[OutputState]],
    ) -> None:
        self._streams, self._queues, self._outputs = streams, queues, outputs

    def collect(self) -> Iterable[Metric]:
        """All counts as they are now."""
        frames = CounterMetricFamily("streamseg_frames", "Frames with a result.", labels=["stream"])
        dropped = CounterMetricFamily(
            "streamseg_dropped_frames", "Frames without a result, by reason.", labels=["stream", "reason"]
        )
        reconnects = CounterMetricFamily(
            "streamseg_reconnects", "How often a source was opened again.", labels=["stream"]
        )
        damaged = CounterMetricFamily(
            "streamseg_damaged_frames",
            "Frames that were patched up, before which packets were lost, or that could not be decoded.",
            labels=["stream"],
        )
        packets = CounterMetricFamily(
            "streamseg_lost_packets", "Packets of a live stream that did not arrive.", labels=["stream"]
        )
        up = GaugeMetricFamily("streamseg_stream_up", "1 while frames come, else 0.", labels=["stream"])
        for name, stream in sorted(self._streams().items()):
            frames.add_metric([name], stream.results)
            for reason, count in sorted(stream.dropped.items()):
                dropped.add_metric([name, reason], count)
            reconnects.add_metric([name], stream.reconnects)
            damaged.add_metric([name], stream.damaged)
            packets.add_metric([name], stream.packets)
            up.add_metric([name], stream.state is StreamState.LIVE)
        yield from (frames, dropped, reconnects, damaged, packets, up, self._lengths())
        yield from self._of_outputs()

    def _of_outputs(self) -> Iterable[Metric]:
        up = GaugeMetricFamily(
            "streamseg_output_up", "1 while results find their way out, else 0.", labels=["output"]
        )
        errors = CounterMetricFamily("streamseg_output_errors", "How often it failed.", labels=["output"])
        dropped = CounterMetricFamily(
            "streamseg_output_dropped_results",
            "Results that were not written: the output was too slow, or had failed.",
            labels=["output", "stream"],
        )
        missed = CounterMetricFamily(
            "streamseg_output_missed_results",
            "Results that were trimmed away before a group of subscribers had read them.",
            labels=["output", "stream", "group"],
        )
        for output in self._outputs():
            up.add_metric([output.name], output.trouble is None)
            errors.add_metric([output.name], output.errors)
            for stream, count in sorted(output.dropped.items()):
                dropped.add_metric([output.name, stream], count)
            for (stream, group), count in sorted(output.missed.items()):
                missed.add_metric([output.name, stream, group], count)
        yield from (up, errors, dropped, missed)

    def _lengths(self) -> Metric:
        lengths = GaugeMetricFamily(
            "streamseg_queue_length", "Frames or results that wait, by queue.", labels=["queue"]
        )
        for name, length in sorted(self._queues().items()):
            lengths.add_metric([name], length)
        return lengths


class Health:
    """Whether a run makes progress, and whether it is ready."""

    def __init__(
        self,
        run: RunMetrics,
        streams: Callable[[], Mapping[str, StreamCounts]],
        outputs: Callable[[], Sequence[OutputState]],
    ) -> None:
        self._run, self._streams, self._outputs = run, streams, outputs

    def stuck(self) -> str | None:
        """What is wrong, if frames wait and nothing happens."""
        idle = time.monotonic() - self._run.progress
        waiting = sum(stream.waiting for stream in self._streams().values())
        if waiting and idle > _STUCK_SECONDS:
            return f"{waiting} frames wait, the last result came {idle:.0f} s ago"
        return None

    def unready(self) -> str | None:
        """What is missing, if no source delivers or an output hands on nothing."""
        return unready(self._streams().values(), self._outputs())


def unready(streams: Iterable[StreamCounts], outputs: Iterable[OutputState]) -> str | None:
    """What is missing, if no source delivers or an output hands on nothing."""
    if not any(stream.state is StreamState.LIVE or stream.results for stream in streams):
        return "no source delivers frames yet"
    down = [f"{output.name}: {output.trouble}" for output in outputs if output.trouble]
    return "; ".join(down) or None


def make_metrics(run: RunMetrics, health: Health, access: Access) -> web.Application:
    """The application that serves ``/metrics``, ``/healthz`` and ``/readyz``."""
    app = web.Application(middlewares=[access.middleware()])

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(run.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", _probe(health.stuck))
    app.router.add_get("/readyz", _probe(health.unready))
    return app


def _probe(wrong: Callable[[], str | None]) -> Handler:
    async def probe(_: web.Request) -> web.Response:
        text = wrong()
        return web.Response(text=f"{text or 'ok'}\n", status=503 if text else 200)

    return probe
