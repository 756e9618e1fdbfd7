"""An output that is down: the log, /metrics, /readyz, the status in Redis and the page tell the same."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from streamseg.config import parse_config
from streamseg.outputs import health
from streamseg.runtime.build import build_pipeline
from streamseg.types import FrameResult, StreamState
from tests.support import troubles
from tests.support.broker import RunningBroker, running_broker, wait_for
from tests.support.disks import Filler, small_disk
from tests.support.media import write_clip
from tests.support.moving import Moving
from tests.support.program import read_results
from tests.support.runs import WATCHED, events_of, published_frames
from tests.support.servers import RtspServer, rtsp_server
from tests.support.story import told


@pytest.fixture
def camera(tmp_path: Path) -> Iterator[RtspServer]:
    folder = tmp_path / "media"
    folder.mkdir()
    write_clip(folder / "clip.mp4", frames=200, bframes=0, gop=10)
    with rtsp_server(folder) as server:
        yield server


def test_a_broker_that_is_away_and_back(
    tmp_path: Path, broker: RunningBroker, camera: RtspServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with running_broker(tmp_path / "other") as other:
        with told(broker, {"url": camera.url("clip.mp4")}, {"type": "redis", "url": other.url}) as story:
            story.check_up("RedisOutput")
            other.kill()
            wait_for(lambda: not story.up("RedisOutput-2"), what="its loss")
            story.check_down("RedisOutput-2", "has not written|cannot be reached", caplog)
            assert story.up("RedisOutput")
            other.start()
            story.check_up("RedisOutput-2")
            assert story.dropped("RedisOutput-2") == 0, "its backlog has kept them all"
        stats = story.pipeline.stats.streams["cam"]
        assert len(published_frames(broker, "cam")) == stats.results
        assert len(published_frames(other, "cam")) == stats.results
    assert stats.state is StreamState.ENDED


def test_a_broker_that_answers_with_errors(
    tmp_path: Path, broker: RunningBroker, camera: RtspServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with running_broker(tmp_path / "other", options=("--appendonly", "no")) as other:
        with (
            told(broker, {"url": camera.url("clip.mp4")}, {"type": "redis", "url": other.url}) as story,
            other.client(decode_responses=True) as client,
        ):
            for trouble in (troubles.full_memory, troubles.demoted, troubles.changed_password):
                heal = trouble(other, client)
                story.check_down("RedisOutput-2", re.escape(troubles.TROUBLES[trouble]), caplog)
                heal()
                story.check_up("RedisOutput-2")
            assert story.up("RedisOutput")
            assert story.dropped("RedisOutput-2") == 0
        stats = story.pipeline.stats.streams["cam"]
        assert published_frames(other, "cam") == published_frames(broker, "cam")
        assert len(published_frames(other, "cam")) == stats.results


def test_a_file_that_cannot_be_written_leaves_the_camera_live(
    tmp_path: Path, broker: RunningBroker, camera: RtspServer, caplog: pytest.LogCaptureFixture
) -> None:
    os.symlink("/dev/full", tmp_path / "full.ndjson.partial")
    output = {"type": "ndjson", "path": str(tmp_path / "full.ndjson")}
    with told(broker, {"url": camera.url("clip.mp4")}, output) as story:
        story.check_down("NdjsonOutput", "No space left", caplog)
        wait_for(lambda: "failed" not in story.status().values())
        results = story.pipeline.stats.streams["cam"].results
        wait_for(lambda: story.pipeline.stats.streams["cam"].results > results + 5)
    assert story.status()["state"] == "ended"
    lost = story.pipeline.output_health()[1].dropped["cam"]
    assert lost == story.pipeline.stats.streams["cam"].results


def test_a_full_disk_is_waited_for(
    tmp_path: Path, broker: RunningBroker, camera: RtspServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    disk = tmp_path / "disk"
    with small_disk(disk, "1m") as mounted:
        if not mounted:
            pytest.skip("no disk can be mounted here")
        outputs = [{"type": kind, "path": f"{disk}/cam.{kind}.ndjson"} for kind in ("ndjson", "events")]
        with told(broker, {"url": camera.url("clip.mp4"), **WATCHED}, *outputs) as story:
            filler = Filler(disk)
            for name in ("NdjsonOutput", "EventsOutput"):
                story.check_down(name, "No space left", caplog)
            filler.remove()
            story.check_up("NdjsonOutput")
            story.check_up("EventsOutput")
            assert "is back after" in caplog.text
        stats = story.pipeline.stats.streams["cam"]
        results = read_results(disk / "cam.ndjson.ndjson")
        assert [r["frame"] for r in results] == published_frames(broker, "cam")
        assert len(results) == stats.results, "its backlog has kept them all"
        assert read_results(disk / "cam.events.ndjson") == events_of(results)
    assert not story.pipeline.stats.output_errors


def test_an_output_that_hangs_is_stuck_and_says_so(
    tmp_path: Path, camera: RtspServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    go_on = tmp_path / "go on"

    def hang(result: FrameResult, *_: object) -> None:
        if result.frame > 5:
            wait_for(go_on.exists, seconds=60)

    content = {"streams": [{"id": "cam", "url": camera.url("clip.mp4")}], "model": {"weights": "0"}}
    config = parse_config(content, where="test")
    with patch("streamseg.inference.OomGuard", Moving), patch.object(health, "STUCK_SECONDS", 0.5):
        pipeline = build_pipeline(config, outputs=[hang])
        with pipeline:
            wait_for(lambda: not pipeline.output_health()[0].up, seconds=40)
            wait_for(lambda: "FunctionOutput has not written a result of stream cam" in caplog.text)
            go_on.touch()
            wait_for(lambda: pipeline.output_health()[0].up)
            wait_for(lambda: "FunctionOutput takes results again" in caplog.text)
            assert pipeline.output_health()[0].errors >= 1
            pipeline.stop()
            pipeline.join()
    counted = pipeline.stats.streams["cam"].dropped["by FunctionOutput"]
    assert pipeline.output_health()[0].dropped.get("cam", 0) == counted
