"""What a run on several engines serves over HTTP: one live page, one set of metrics."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streamseg.config import MetricsConfig, RunConfig, ViewConfig
from streamseg.runtime.services import serving
from streamseg.runtime.stats import StreamStats
from streamseg.scale.handle import EngineHandle
from streamseg.scale.metrics import STREAM_UP, EngineMetrics, MergedMetrics, make_metrics
from streamseg.scale.page import EnginePage, PageProxy, PageSource
from streamseg.scale.pool import EnginePool
from streamseg.types import StreamState
from streamseg.web.access import Access
from streamseg.web.metrics import unready
from streamseg.web.page import serve_page
from streamseg.web.server import WebServer


class EngineServices:
    """The web servers that a configuration asks for, from entering until leaving."""

    def __init__(self, config: RunConfig) -> None:
        """Prepare; nothing is listened on yet. Raises UsageError for an address that needs a token."""
        self.urls: list[str] = []
        """Where the servers are found, once they listen."""
        self.token = secrets.token_urlsafe(32)
        """What the engines' own servers are to ask for: their visitors come here."""
        self.config = config
        """The same; once entered, with the address of the broker that was brought along, if one is wanted."""
        self._paged = config.view.enabled
        self._servers: list[WebServer] = []
        self._stack = ExitStack()
        self._pool: EnginePool | None = None
        if config.view.enabled:
            self._add_page(config.view)
        if config.metrics.enabled:
            self._add_metrics(config.metrics)

    def __enter__(self) -> EngineServices:
        """Listen. Raises UsageError if an address or a broker cannot be had."""
        self.config, urls = self._stack.enter_context(serving(self.config, self._servers))
        self.urls += urls
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def attach(self, pool: EnginePool) -> None:
        """Serve the engines of this run from now on."""
        self._pool = pool

    def _add_page(self, config: ViewConfig) -> None:
        access = Access(config.host, config.token)
        access.check(host="view.host", token="view.token")
        source = PageSource(self._pages, self._streams, self._owner, self._outputs, self.token)
        page = PageProxy(source)
        self._servers.append(
            WebServer(
                lambda: serve_page(page.handle, access), host=config.host, port=config.port, name="view"
            )
        )

    def _add_metrics(self, config: MetricsConfig) -> None:
        access = Access(config.host, config.token)
        access.check(host="metrics.host", token="metrics.token")
        merged, own = MergedMetrics(self._owner), _EngineCollector(self._handles, self._stats)
        self._servers.append(
            WebServer(
                lambda: make_metrics(
                    self._metrics,
                    merged,
                    own,
                    trouble=self._trouble,
                    unready=self._unready,
                    token=self.token,
                    access=access,
                ),
                host=config.host,
                port=config.port,
                name="metrics",
            )
        )

    # What the servers ask for, each in its thread.

    def _handles(self) -> Sequence[EngineHandle]:
        return () if self._pool is None else self._pool.handles

    def _ready(self) -> list[tuple[EngineHandle, list[str]]]:
        """Engines that serve, and where."""
        found = [(handle, handle.ready) for handle in self._handles()]
        return [(handle, ready.urls) for handle, ready in found if ready is not None]

    def _pages(self) -> list[EnginePage]:
        return [EnginePage(handle.owner, urls[0]) for handle, urls in self._ready()]

    def _metrics(self) -> list[EngineMetrics]:
        return [EngineMetrics(handle.owner, str(handle), urls[self._paged]) for handle, urls in self._ready()]

    def _owner(self, stream: str) -> int | None:
        return None if self._pool is None else self._pool.owner(stream)

    def _stats(self) -> list[tuple[str, StreamStats]]:
        """Of all streams, by id."""
        return [] if self._pool is None else sorted(self._pool.stats.streams.items())

    def _streams(self) -> list[dict[str, Any]]:
        return [
            {"id": name, "state": stats.state.value, "dropped": stats.dropped.total()}
            for name, stats in self._stats()
        ]

    def _outputs(self) -> list[dict[str, Any]]:
        found = [] if self._pool is None else self._pool.output_health()
        return [
            {"name": output.name, "trouble": output.trouble, "dropped": sum(output.dropped.values())}
            for output in found
        ]

    def _trouble(self) -> str | None:
        return None if self._pool is None else self._pool.trouble()

    def _unready(self) -> str | None:
        if self._pool is None:
            return "the engines are starting"
        return self._pool.trouble() or unready(self._pool.stats.streams.values(), self._pool.output_health())


class _EngineCollector(Collector):
    """The engines themselves, and whether each stream is read."""

    def __init__(
        self,
        handles: Callable[[], Sequence[EngineHandle]],
        streams: Callable[[], Sequence[tuple[str, StreamStats]]],
    ) -> None:
        self._handles, self._streams = handles, streams

    def collect(self) -> Iterable[Metric]:
        """All as they are now."""
        up = GaugeMetricFamily(STREAM_UP, "1 while frames come, else 0.", labels=["stream"])
        for name, stats in self._streams():
            up.add_metric([name], stats.state is StreamState.LIVE)
        yield up
        yield from self._of_engines()

    def _of_engines(self) -> Iterable[Metric]:
        labels = ["engine", "device"]
        up = GaugeMetricFamily("streamseg_engine_up", "1 while it takes streams, else 0.", labels=labels)
        deaths = CounterMetricFamily("streamseg_engine_deaths", "How often it died.", labels=labels)
        streams = GaugeMetricFamily("streamseg_engine_streams", "Streams that it reads.", labels=labels)
        capacity = GaugeMetricFamily(
            "streamseg_engine_capacity", "Frames per second of its network, measured.", labels=labels
        )
        for handle in self._handles():
            values = [str(handle.number), handle.device]
            up.add_metric(values, handle.takes_streams and not handle.silent)
            deaths.add_metric(values, handle.deaths)
            streams.add_metric(values, len(handle.handed))
            capacity.add_metric(values, handle.capacity or 0.0)
        yield from (up, deaths, streams, capacity)
