"""What a run serves while it goes on: the live page, metrics and health over HTTP, and its own broker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType

from streamseg.config import MetricsConfig, OverlayOptions, RunConfig, ViewConfig
from streamseg.runtime.broker import embedded_broker
from streamseg.runtime.pipeline import Pipeline
from streamseg.types import FrameResult, Output, StreamInfo
from streamseg.web.access import Access
from streamseg.web.hub import Hub
from streamseg.web.metrics import Health, OutputState, RunCollector, RunMetrics, StreamCounts, make_metrics
from streamseg.web.output import ViewOutput
from streamseg.web.page import make_page
from streamseg.web.server import WebServer
from streamseg.zones import StreamRules


@contextmanager
def serving(config: RunConfig, servers: Iterable[WebServer]) -> Iterator[tuple[RunConfig, list[str]]]:
    """Have the servers listen, and the broker that ``config`` asks for run, until it is left.

    Gives the configuration with the broker's address, and where all of them are found. Raises UsageError if
    an address or the broker cannot be had.
    """
    with ExitStack() as stack:
        config, broker = stack.enter_context(embedded_broker(config))
        urls = [] if broker is None else [broker]
        for server in servers:
            stack.enter_context(server)
            urls.append(server.url)
        yield config, urls


class Services:
    """The servers that a configuration asks for, from entering until leaving."""

    def __init__(self, config: RunConfig) -> None:
        """Prepare; nothing is listened on yet. Raises UsageError for an address that needs a token."""
        self.outputs: list[Output] = []
        """What the pipeline has to write to."""
        self.meter: RunMetrics | None = None
        """What the pipeline has to be measured with, if with anything."""
        self.urls: list[str] = []
        """Where the servers are found, once they listen."""
        self.config = config
        """The same; once entered, with the address of the broker that was brought along, if one is wanted."""
        self._servers: list[WebServer] = []
        self._stack = ExitStack()
        self._pipeline: Pipeline | None = None
        if config.view.enabled:
            self._add_page(config.view, config.overlay)
        if config.metrics.enabled:
            self._add_metrics(config.metrics)

    def __enter__(self) -> Services:
        """Listen. Raises UsageError if an address or a broker cannot be had."""
        self.config, urls = self._stack.enter_context(serving(self.config, self._servers))
        self.urls += urls
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def attach(self, pipeline: Pipeline) -> None:
        """Serve the counts of this run from now on."""
        self._pipeline = pipeline

    def observe(self, event: StreamInfo | FrameResult) -> None:
        """Hear of every opening and result; any thread."""
        if self.meter is not None:
            self.meter.observe(event)

    def _add_page(self, config: ViewConfig, overlay: OverlayOptions) -> None:
        access = Access(config.host, config.token)
        access.check(host="view.host", token="view.token")
        hub = Hub(outputs=self._output_states)
        self.outputs.append(ViewOutput(hub, overlay, self._rules))
        self._servers.append(
            WebServer(lambda: make_page(hub, access), host=config.host, port=config.port, name="view")
        )

    def _add_metrics(self, config: MetricsConfig) -> None:
        access = Access(config.host, config.token)
        access.check(host="metrics.host", token="metrics.token")
        self.meter = meter = RunMetrics()
        meter.registry.register(RunCollector(self._streams, self._queues, self._output_states))
        health = Health(meter, self._streams, self._output_states)
        self._servers.append(
            WebServer(
                lambda: make_metrics(meter, health, access),
                host=config.host,
                port=config.port,
                name="metrics",
            )
        )

    def _streams(self) -> Mapping[str, StreamCounts]:
        return {} if self._pipeline is None else dict(self._pipeline.stats.streams)

    def _output_states(self) -> Sequence[OutputState]:
        return [] if self._pipeline is None else self._pipeline.output_health()

    def _rules(self, stream: str) -> StreamRules | None:
        return None if self._pipeline is None else self._pipeline.rules.get(stream)

    def _queues(self) -> Mapping[str, int]:
        return {} if self._pipeline is None else self._pipeline.queue_lengths()
