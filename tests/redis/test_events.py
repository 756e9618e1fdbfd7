"""What happens at zones and lines, in Redis and in the metrics."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from streamseg.redis.writer import RedisWriter
from streamseg.types.zones import ZoneEvent
from streamseg.web.metrics import RunMetrics
from tests.support.broker import RunningBroker, running_broker
from tests.support.media import write_clip
from tests.support.runs import events_of, published_frames, run_watched


def test_every_event_is_an_entry_in_order(broker: RunningBroker, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=60)
    results = run_watched(clip, outputs=[{"type": "redis", "url": broker.url, "maxlen": 5000}])
    with broker.client() as client:
        entries = client.xrange("streamseg:{cam}:events")
        published = client.xlen("streamseg:{cam}:results")
    assert [json.loads(fields[b"event"]) for _, fields in entries] == events_of(results)
    assert published == len(results) == 60


def test_a_broker_that_forgets_between_a_result_and_its_event_gets_both_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=60)
    tell, told = RedisWriter._tell, itertools.count(1)
    with running_broker(tmp_path / "redis", options=("--appendonly", "no")) as broker:

        def tell_one_that_has_forgotten(writer: RedisWriter, event: ZoneEvent) -> None:
            if next(told) in (3, 6):
                broker.kill()
                broker.start()
            tell(writer, event)

        monkeypatch.setattr(RedisWriter, "_tell", tell_one_that_has_forgotten)
        results = run_watched(clip, outputs=[{"type": "redis", "url": broker.url, "maxlen": 5000}])
        with broker.client() as client:
            entries = client.xrange("streamseg:{cam}:events")
        frames = published_frames(broker, "cam")
    assert frames == list(range(60))
    assert [json.loads(fields[b"event"]) for _, fields in entries] == events_of(results)


def test_metrics_count_what_the_events_say(tmp_path: Path) -> None:
    meter = RunMetrics()
    results = run_watched(write_clip(tmp_path / "clip.mp4", frames=60), observe=meter.observe)
    text = generate_latest(meter.registry).decode()
    last, events = results[-1], events_of(results)
    assert f'streamseg_zone_objects{{stream="cam",zone="left"}} {last["counts"]["left"]:.1f}' in text
    entered = sum(e["event"] == "enter" for e in events)
    assert f'streamseg_zone_events_total{{event="enter",stream="cam",zone="left"}} {entered:.1f}' in text
    for direction, count in last["counts"]["middle"].items():
        line = f'{{direction="{direction}",line="middle",stream="cam"}} {count:.1f}'
        assert count == 0 or f"streamseg_line_crossings_total{line}" in text
