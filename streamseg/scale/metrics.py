"""Metrics and health of several engines as those of one run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from streamseg.web.access import Access

_FETCH_SECONDS = 3.0
"""An engine that answers later does not answer."""
_SILENT = 0
"""In place of the status of one that does not answer."""

STREAM_UP = "streamseg_stream_up"
"""The parent alone knows it of all streams, of those as well whose engine is gone."""

Key = tuple[str, tuple[tuple[str, str], ...]]
"""Name and labels of a sample."""


@dataclass(frozen=True, slots=True)
class EngineMetrics:
    """The metrics of one engine process."""

    owner: int
    """Tells the process from all others."""
    name: str
    """For people."""
    url: str


@dataclass(slots=True)
class _Family:
    kind: str
    documentation: str
    samples: dict[Key, float] = field(default_factory=dict)


Families = dict[str, _Family]


class MergedMetrics(Collector):
    """Adds up what engines have counted, those that are gone included: no counter ever goes back."""

    def __init__(self, owner: Callable[[str], int | None]) -> None:
        """``owner`` says which process has a stream now: what it measures counts."""
        self._owner = owner
        self._silent: set[int] = set()
        self._present: dict[int, Families] = {}
        self._former: Families = {}
        """What engines had counted that are gone, as they told last."""

    def take(self, told: Mapping[int, str], running: Iterable[int]) -> None:
        """What processes tell, by owner, in Prometheus's format; ``running``: all that are there.

        Of one that tells nothing now its counters stay.
        """
        self._present |= {owner: _parse(text) for owner, text in told.items()}
        self._silent = self._present.keys() - told.keys()
        for owner in self._present.keys() - set(running):
            for name, family in self._present.pop(owner).items():
                if family.kind != "gauge":
                    _add(self._former, name, family, family.samples)

    def collect(self) -> Iterable[Metric]:
        """All families, as they were told last."""
        merged: Families = {}
        for families in (self._former, *self._present.values()):
            for name, family in families.items():
                if family.kind != "gauge":
                    _add(merged, name, family, family.samples)
        names = {name for families in self._present.values() for name in families}
        for name in names - {STREAM_UP}:
            self._merge_gauge(merged, name)
        for name, family in sorted(merged.items()):
            metric = Metric(name, family.documentation, family.kind)
            metric.samples = [Sample(key[0], dict(key[1]), value) for key, value in family.samples.items()]
            yield metric

    def _merge_gauge(self, merged: Families, name: str) -> None:
        """A stream's gauge is its owner's; an output is up where it is so everywhere; lengths are added."""
        for owner, families in self._present.items():
            if owner in self._silent or (family := families.get(name)) is None or family.kind != "gauge":
                continue
            target = merged.setdefault(name, _Family(family.kind, family.documentation)).samples
            for key, value in family.samples.items():
                labels = dict(key[1])
                if "stream" in labels:
                    if self._owner(labels["stream"]) in {owner, None}:
                        target[key] = value
                elif "output" in labels:
                    target[key] = min(value, target.get(key, value))
                else:
                    target[key] = target.get(key, 0.0) + value


def _parse(text: str) -> Families:
    return {
        family.name: _Family(
            family.type,
            family.documentation,
            {(s.name, tuple(sorted(s.labels.items()))): s.value for s in family.samples},
        )
        for family in text_string_to_metric_families(text)
    }


def _add(target: Families, name: str, family: _Family, samples: Mapping[Key, float]) -> None:
    into = target.setdefault(name, _Family(family.kind, family.documentation)).samples
    for key, value in samples.items():
        into[key] = into.get(key, 0.0) + value


def make_metrics(
    engines: Callable[[], Sequence[EngineMetrics]],
    merged: MergedMetrics,
    own: Collector,
    *,
    trouble: Callable[[], str | None],
    unready: Callable[[], str | None],
    token: str,
    access: Access,
) -> web.Application:
    """The application that serves ``/metrics``, ``/healthz`` and ``/readyz`` for all engines.

    Args:
        engines: Those that are to be asked.
        merged: What they count.
        own: Metrics of the engines themselves.
        trouble: Says why no engine works, if so.
        unready: Says what keeps the run from being ready.
        token: What the engines ask for.
        access: Who may see it.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(own)
    registry.register(merged)

    async def metrics(_: web.Request) -> web.Response:
        running = engines()
        answers = await _fetch(running, "metrics", token)
        told = {owner: text for owner, (status, text) in answers.items() if status == 200}
        merged.take(told, [engine.owner for engine in running])
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(_: web.Request) -> web.Response:
        running = engines()
        answers = await _fetch(running, "healthz", token)
        # One that gives no answer is ended and started again; one that is stuck, nobody looks after.
        silent = all(status == _SILENT for status, _ in answers.values())
        wrong = [
            f"{engine.name}: {answers[engine.owner][1].strip()}"
            for engine in running
            if silent or answers[engine.owner][0] not in {200, _SILENT}
        ]
        return _answer(trouble() or "; ".join(wrong) or None)

    async def readyz(_: web.Request) -> web.Response:
        return _answer(unready())

    app = web.Application(middlewares=[access.middleware()])
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app


def _answer(wrong: str | None) -> web.Response:
    return web.Response(text=f"{wrong or 'ok'}\n", status=503 if wrong else 200)


async def _fetch(engines: Sequence[EngineMetrics], path: str, token: str) -> dict[int, tuple[int, str]]:
    """Status and text of each, all at once."""
    timeout = aiohttp.ClientTimeout(total=_FETCH_SECONDS)
    headers = {"Authorization": f"Bearer {token}"}
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:
        calls: list[Awaitable[tuple[int, str]]] = [_get(session, f"{e.url}{path}") for e in engines]
        answers = await asyncio.gather(*calls)
    return {engine.owner: answer for engine, answer in zip(engines, answers, strict=True)}


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    try:
        async with session.get(url) as answer:
            return answer.status, await answer.text()
    except (aiohttp.ClientError, TimeoutError, ConnectionError):
        return _SILENT, "does not answer"
