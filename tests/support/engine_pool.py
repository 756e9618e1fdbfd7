"""Two engines, real processes on the stand-in model, under a parent that is this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from prometheus_client.parser import text_string_to_metric_families

from streamseg.config import parse_config
from streamseg.scale.build import build_pool
from streamseg.scale.handle import EngineHandle
from streamseg.scale.pool import EnginePool
from streamseg.scale.services import EngineServices
from streamseg.types import FrameResult
from tests.support.broker import RunningBroker
from tests.support.engines import STAND_IN
from tests.support.runs import published
from tests.support.story import shown
from tests.support.web import get


@dataclass(frozen=True)
class RunningPool:
    """A pool, and all places that tell how it does."""

    pool: EnginePool
    page: str
    metrics: str

    @property
    def handles(self) -> list[EngineHandle]:
        return self.pool.handles

    def probe(self, name: str) -> tuple[int, str]:
        """``healthz`` or ``readyz``: status and text."""
        status, text = get(self.metrics + name)
        return status, text.decode().strip()

    def samples(self, name: str, label: str) -> dict[str, float]:
        """Values of a metric, by a label."""
        status, text = get(self.metrics + "metrics")
        assert status == 200
        families = text_string_to_metric_families(text.decode())
        found = [sample for family in families for sample in family.samples if sample.name == name]
        return {sample.labels[label]: sample.value for sample in found}

    def states(self) -> dict[str, str]:
        """What the page tells of the streams."""
        return {stream["id"]: stream["state"] for stream in shown(self.page)["streams"]}


@contextmanager
def running_pool(
    streams: dict[str, str | Path], outputs: Sequence[dict[str, Any]] = (), *, seconds: float = 0.005
) -> Iterator[RunningPool]:
    """``streams``: URLs by id; ``seconds`` for each picture."""
    content = {
        "streams": [{"id": name, "url": str(url), "stalled_after": 60} for name, url in streams.items()],
        "model": {"device": ["cpu", "cpu"], "weights": str(seconds)},
        "outputs": list(outputs),
        "view": {"enabled": True, "port": 0},
        "metrics": {"enabled": True, "port": 0},
    }
    config = parse_config(content, where="test")
    with patch.object(sys, "path", [str(STAND_IN), *sys.path]), EngineServices(config) as services:
        pool = build_pool(services.config, token=services.token)
        services.attach(pool)
        with pool:
            try:
                yield RunningPool(pool, *services.urls)
            finally:
                pool.stop()


def seen(broker: RunningBroker, stream: str) -> list[FrameResult]:
    """What a subscriber sees of a camera: epochs only grow, and no frame comes late or twice."""
    results = published(broker, stream)
    numbers = [(result.epoch, result.frame) for result in results]
    assert numbers == sorted(set(numbers)), stream
    return results
