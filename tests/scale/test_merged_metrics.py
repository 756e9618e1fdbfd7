"""Samples of several engines become those of one run."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streamseg.scale.metrics import MergedMetrics


def engine(*, stream: str, frames: int, up: float, output: float, batches: int) -> str:
    """What an engine serves that has read one stream."""
    registry = CollectorRegistry()
    Counter("frames", "Frames.", ["stream"], registry=registry).labels(stream).inc(frames)
    Gauge("stream_up", "Up.", ["stream"], registry=registry).labels(stream).set(up)
    Gauge("output_up", "Up.", ["output"], registry=registry).labels("Redis").set(output)
    Gauge("queue_length", "Waiting.", ["queue"], registry=registry).labels("batcher").set(2)
    sizes = Histogram("batch_size", "Size.", buckets=(1, 2), registry=registry)
    for _ in range(batches):
        sizes.observe(2)
    return generate_latest(registry).decode()


def samples(merged: MergedMetrics) -> dict[tuple[str, ...], float]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(merged)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def test_counters_add_up_and_gauges_keep_their_meaning() -> None:
    owners = {"a": 0, "b": 1}
    merged = MergedMetrics(owners.get)
    first = engine(stream="a", frames=5, up=1, output=1, batches=3)
    second = engine(stream="b", frames=7, up=0, output=0, batches=4)
    merged.take({0: first, 1: second}, [0, 1])
    found = samples(merged)
    assert (found["frames_total", "a"], found["frames_total", "b"]) == (5, 7)
    assert (found["stream_up", "a"], found["stream_up", "b"]) == (1, 0)
    assert found["output_up", "Redis"] == 0, "it is down on one of them"
    assert found["queue_length", "batcher"] == 4
    assert found["batch_size_count",] == found["batch_size_bucket", "2.0"] == 7


def test_a_counter_never_goes_back_when_its_engine_is_gone() -> None:
    owners = {"a": 0}
    merged = MergedMetrics(owners.get)
    merged.take({0: engine(stream="a", frames=5, up=1, output=1, batches=3)}, [0])
    owners["a"] = 1
    merged.take({1: engine(stream="a", frames=2, up=1, output=1, batches=1)}, [1])
    found = samples(merged)
    assert found["frames_total", "a"] == 7
    assert found["batch_size_count",] == 4
    assert found["queue_length", "batcher"] == 2


@pytest.mark.parametrize(("owner", "up"), [(0, 1.0), (1, 0.0)])
def test_a_streams_gauge_is_that_of_the_engine_that_has_it(owner: int, up: float) -> None:
    merged = MergedMetrics({"a": owner}.get)
    told = [engine(stream="a", frames=5, up=state, output=1, batches=1) for state in (1, 0)]
    merged.take(dict(enumerate(told)), [0, 1])
    assert samples(merged)["stream_up", "a"] == up
