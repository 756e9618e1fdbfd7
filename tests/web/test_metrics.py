"""Metrics and health of a run."""

import json
import re
import threading
from pathlib import Path
from unittest.mock import patch

import numpy as np
import yaml
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from streamseg.config import parse_config
from streamseg.runtime.build import build_pipeline
from streamseg.runtime.services import Services
from streamseg.web import metrics
from tests.support.broker import wait_for
from tests.support.media import write_clip
from tests.support.moving import Moving
from tests.support.program import ROOT, read_results
from tests.support.runs import resources, taken_since
from tests.support.servers import rtsp_server
from tests.support.web import get

NAMES = {
    "streamseg_zone_objects",
    "streamseg_zone_events",
    "streamseg_line_crossings",
    "streamseg_frames",
    "streamseg_dropped_frames",
    "streamseg_reconnects",
    "streamseg_stream_up",
    "streamseg_latency_seconds",
    "streamseg_batch_size",
    "streamseg_stage_seconds",
    "streamseg_queue_length",
    "streamseg_damaged_frames",
    "streamseg_lost_packets",
    "streamseg_output_up",
    "streamseg_output_errors",
    "streamseg_output_dropped_results",
    "streamseg_output_missed_results",
}
LABELS = ("output", "stream", "group", "stage", "queue", "reason", "le")


def scrape(url: str) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    status, text = get(url + "metrics")
    assert status == 200
    families = list(text_string_to_metric_families(text.decode()))
    assert {family.name for family in families} == NAMES
    samples = [sample for family in families for sample in family.samples]
    return {(s.name, *(s.labels[k] for k in LABELS if k in s.labels)): s.value for s in samples}


def test_counts_are_those_of_the_published_results(tmp_path: Path) -> None:
    write_clip(tmp_path / "camera.mp4", frames=50)
    write_clip(tmp_path / "clip.mp4", frames=40)
    with rtsp_server(tmp_path) as camera:
        content = {
            "streams": [
                {"id": "camera", "url": camera.url("camera.mp4")},
                {"id": "clip", "url": str(tmp_path / "clip.mp4")},
            ],
            "model": {"weights": "0.06"},  # seconds a picture: the camera is faster
            "outputs": [{"type": "ndjson", "path": str(tmp_path / "{stream}.ndjson")}],
            "metrics": {"enabled": True, "port": 0},
        }
        config = parse_config(content, where="test")
        with patch("streamseg.inference.OomGuard", Moving), Services(config) as services:
            (url,) = services.urls
            assert get(url + "healthz")[0] == 200
            assert get(url + "readyz") == (503, b"no source delivers frames yet\n")
            pipeline = build_pipeline(config, observe=services.observe, meter=services.meter)
            services.attach(pipeline)
            with pipeline:
                wait_for(lambda: get(url + "readyz")[0] == 200)
                wait_for(lambda: scrape(url).get(("streamseg_stream_up", "camera")) == 1)
                wait_for(lambda: pipeline.stats.streams["clip"].over, seconds=60)
                wait_for(lambda: pipeline.stats.streams["camera"].dropped.total() > 5, seconds=60)
                pipeline.stop()
                pipeline.join()
            samples = scrape(url)
            summary = pipeline.stats.streams
    for stream in ("camera", "clip"):
        published = len(read_results(tmp_path / f"{stream}.ndjson"))
        assert samples["streamseg_frames_total", stream] == published
        assert samples["streamseg_latency_seconds_count", stream] == published
        assert samples["streamseg_stream_up", stream] == 0
        assert samples["streamseg_reconnects_total", stream] == 0
        for reason, count in summary[stream].dropped.items():
            assert samples["streamseg_dropped_frames_total", stream, reason] == count
    frames = samples["streamseg_frames_total", "camera"] + samples["streamseg_frames_total", "clip"]
    assert samples[("streamseg_batch_size_sum",)] >= frames
    assert samples["streamseg_stage_seconds_count", "publish"] == frames
    assert samples["streamseg_stage_seconds_count", "decode"] >= frames
    assert samples["streamseg_stage_seconds_sum", "decode"] > 0
    assert samples["streamseg_queue_length", "batcher"] == 0


def test_a_run_whose_model_hangs_is_not_healthy(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", frames=5)
    go_on = threading.Event()

    class Hanging(Moving):
        def wait(self, ticket: list[NDArray[np.uint8]]) -> None:
            go_on.wait(60)
            super().wait(ticket)

    content = {
        "streams": [{"url": str(tmp_path / "clip.mp4")}],
        "model": {"weights": "0"},
        "metrics": {"enabled": True, "port": 0},
    }
    config = parse_config(content, where="test")
    with (
        patch("streamseg.inference.OomGuard", Hanging),
        patch.object(metrics, "_STUCK_SECONDS", 0.2),
        Services(config) as services,
    ):
        (url,) = services.urls
        pipeline = build_pipeline(config, observe=services.observe, meter=services.meter)
        services.attach(pipeline)
        with pipeline:
            wait_for(lambda: get(url + "healthz")[0] == 503)
            assert b"frames wait, the last result came" in get(url + "healthz")[1]
            go_on.set()
            pipeline.join()
        wait_for(lambda: get(url + "healthz") == (200, b"ok\n"))


def test_servers_that_are_never_entered_take_neither_threads_nor_descriptors() -> None:
    content = {"metrics": {"enabled": True, "port": 0}, "view": {"enabled": True, "port": 0}}
    config = parse_config(content, where="test")
    before = resources()
    services = [Services(config) for _ in range(10)]
    assert taken_since(before) == {}
    with services[0]:
        assert taken_since(before)["fds"] > 0
    wait_for(lambda: taken_since(before) == {})


def test_what_is_deployed_asks_for_metrics_that_there_are() -> None:
    known = NAMES | {f"{name}_{end}" for name in NAMES for end in ("total", "bucket", "sum", "count")}
    for name in ("grafana/streamseg.json", "prometheus.rules.yml"):
        asked = set(re.findall(r"\bstreamseg_\w+", (ROOT / "deploy" / name).read_text()))
        assert asked <= known, name
        assert len(asked) > 2
    json.loads((ROOT / "deploy" / "grafana" / "streamseg.json").read_text())
    yaml.safe_load((ROOT / "deploy" / "prometheus.rules.yml").read_text())
    yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
