"""A camera in trouble: the log, /metrics, the status in Redis and the page tell the same of it."""

from __future__ import annotations

import logging
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from streamseg.client import Gap, subscribe
from streamseg.config import parse_config
from streamseg.runtime.build import build_sources
from tests.support.broker import RunningBroker, wait_for
from tests.support.media import write_clip
from tests.support.reading import worker_pids
from tests.support.rtp_camera import rtp_camera
from tests.support.servers import free_port, refusing_server, rtsp_server
from tests.support.story import Story, told
from tests.support.web import get
from tests.support.web_cameras import web_cameras
from tests.web.test_metrics import scrape


def check_told(story: Story, caplog: pytest.LogCaptureFixture, why: str) -> None:
    """The same reason in the log, in the status and on the page; the camera is not up."""
    wait_for(lambda: re.search(why, story.status().get("error", "")), seconds=40, what=why)
    wait_for(lambda: re.search(why, story.page().get("error", "")), what=why)
    assert re.search(why, caplog.text)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("rtsp://no-such-host.invalid/x", "the host no-such-host.invalid is not found"),
        ("http://no-such-host.invalid/video.cgi", "the host no-such-host.invalid is not found"),
        ("http://127.0.0.1:{port}/video.cgi", "Connection refused; it counts as a camera until it answers"),
    ],
)
def test_why_a_camera_cannot_be_reached(
    broker: RunningBroker, caplog: pytest.LogCaptureFixture, url: str, why: str
) -> None:
    with told(broker, {"url": url.format(port=free_port())}, results=0) as story:
        check_told(story, caplog, why)
        assert scrape(story.metrics)["streamseg_stream_up", "cam"] == 0
        assert story.status()["state"] == story.page()["state"] == "connecting"


@pytest.mark.parametrize("every", [4, pytest.param(70, marks=pytest.mark.soak)])
@pytest.mark.timeout(300)
def test_a_key_frame_is_waited_for(
    broker: RunningBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture, every: int
) -> None:
    """Some cameras send one every 70 s: opening them takes as long as that."""
    write_clip(tmp_path / "rare.ts", frames=4 * every * 25, bframes=0, gop=every * 25)
    with (
        web_cameras(tmp_path) as server,
        told(broker, {"url": f"{server.url}/paced/rare.ts"}, results=0) as story,
    ):
        check_told(story, caplog, "waiting for a key frame")
        assert scrape(story.metrics)["streamseg_stream_up", "cam"] == 0
        assert story.status()["state"] == story.page()["state"] == "connecting"
        wait_for(lambda: story.status().get("state") == "live", seconds=40 + every)
        assert story.pipeline.stats.streams["cam"].reconnects == 0, "it was waited for, not opened again"
        assert scrape(story.metrics)["streamseg_stream_up", "cam"] == 1


def test_a_worker_that_was_killed(broker: RunningBroker, caplog: pytest.LogCaptureFixture) -> None:
    with web_cameras() as server, told(broker, {"url": f"{server.url}/mjpeg"}) as story:
        (pid,) = worker_pids(os.getpid())
        os.kill(pid, signal.SIGSEGV)
        check_told(story, caplog, "the decode worker was killed by SIGSEGV")
        wait_for(lambda: scrape(story.metrics)["streamseg_reconnects_total", "cam"] == 1, seconds=40)
        wait_for(lambda: story.status().get("reconnects") == "1")
        wait_for(lambda: story.page()["reconnects"] == 1)
        assert "live again" in caplog.text


def check_back(story: Story, *, reconnects: int) -> None:
    """Live again, for all of them, and as often opened again."""
    wait_for(lambda: story.status().get("state") == "live", seconds=40)
    wait_for(lambda: story.page().get("state") == "live", seconds=40)
    samples = scrape(story.metrics)
    assert samples["streamseg_stream_up", "cam"] == 1
    counts = (samples["streamseg_reconnects_total", "cam"], int(story.status()["reconnects"]))
    assert (*counts, story.page()["reconnects"]) == (reconnects,) * 3


def test_a_camera_that_goes_silent(
    broker: RunningBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (media := tmp_path / "media").mkdir()
    write_clip(media / "clip.mp4", frames=100, width=96, height=64, bframes=0, gop=10)
    with rtsp_server(media) as server:
        stream = {"url": server.url("clip.mp4"), "stalled_after": 2.0}
        with told(broker, stream) as story:
            server.freeze()
            check_told(story, caplog, "no frame for 2 s")
            assert scrape(story.metrics)["streamseg_stream_up", "cam"] == 0
            server.thaw()
            check_back(story, reconnects=1)
            assert "live again" in caplog.text


def test_a_camera_of_the_web_that_is_cut(broker: RunningBroker, caplog: pytest.LogCaptureFixture) -> None:
    with web_cameras() as server, told(broker, {"url": f"{server.url}/mjpeg"}) as story:
        server.broken = True
        check_told(story, caplog, "cannot connect to http.*5XX")
        assert scrape(story.metrics)["streamseg_stream_up", "cam"] == 0
        assert story.status()["state"] == story.page()["state"] == "connecting"
        server.broken = False
        check_back(story, reconnects=1)


def test_a_camera_that_refuses_the_password(broker: RunningBroker, caplog: pytest.LogCaptureFixture) -> None:
    with refusing_server("401 Unauthorized") as server:
        stream = {"url": f"rtsp://127.0.0.1:{server.port}/x", "user": "viewer", "password": "pa/55#?"}
        with told(broker, stream, results=0) as story:
            check_told(story, caplog, "user or password refused")
            assert scrape(story.metrics)["streamseg_stream_up", "cam"] == 0
            assert "pa/55" not in f"{story.status()}{story.page()}{caplog.text}"


def test_a_clock_that_jumps_is_no_loss(broker: RunningBroker, caplog: pytest.LogCaptureFixture) -> None:
    with rtp_camera() as camera, told(broker, {"url": camera.url, "transport": "udp"}) as story:
        before = story.pipeline.stats.streams["cam"].results
        camera.ahead = 600.0
        wait_for(lambda: "its time stamps jump" in caplog.text, seconds=40)
        wait_for(lambda: story.pipeline.stats.streams["cam"].results > before + 25)
        check_back(story, reconnects=0)


def test_damage(broker: RunningBroker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with rtp_camera() as camera:
        stream: dict[str, Any] = {"url": camera.url, "transport": "udp"}
        with told(broker, stream) as story:
            camera.lose_every = 20
            wait_for(lambda: scrape(story.metrics)["streamseg_damaged_frames_total", "cam"] >= 5)
            camera.lose_every = 0
            stats = story.pipeline.stats.streams["cam"]
            wait_for(lambda: stats.packets >= camera.lost - 1 and "packets lost" in caplog.text)
            wait_for(lambda: story.status().get("damaged") == str(stats.damaged))
            assert story.page()["damaged"] == stats.damaged
            assert story.status()["lost_packets"] == str(stats.packets)
            assert scrape(story.metrics)["streamseg_damaged_frames_total", "cam"] == stats.damaged
            assert scrape(story.metrics)["streamseg_lost_packets_total", "cam"] == stats.packets
            assert stats.dropped["damaged"] == 0
            assert stats.error is None


def test_what_a_group_of_subscribers_missed(broker: RunningBroker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with (
        web_cameras(fps=25) as server,
        told(broker, {"url": f"{server.url}/mjpeg"}) as story,
        subscribe(broker.url, ["cam"], group="slow", start="start", gaps=True) as subscription,
        broker.client() as client,
    ):
        next(subscription)
        results = story.pipeline.stats.streams["cam"].results
        wait_for(lambda: story.pipeline.stats.streams["cam"].results > results + 20)
        client.xtrim("streamseg:{cam}:results", maxlen=5, approximate=False)
        missed = ("streamseg_output_missed_results_total", "RedisOutput", "cam", "slow")
        wait_for(lambda: scrape(story.metrics).get(missed), what="a count")
        count = int(scrape(story.metrics)[missed])
        assert next(subscription) == Gap("cam", count)
        assert count >= 15
        wait_for(lambda: story.status().get("missed") == str(count))
        wait_for(lambda: story.page().get("missed") == count)
        why = f"group slow is too slow for stream cam: {count} results were trimmed before it read them"
        assert why in caplog.text
        assert get(story.metrics + "readyz")[0] == 200, "the output is not to blame"
        next(subscription)
        results = story.pipeline.stats.streams["cam"].results
        wait_for(lambda: story.pipeline.stats.streams["cam"].results > results + 5)
        assert scrape(story.metrics)[missed] == count


def test_the_keys_of_a_stream_reach_its_source() -> None:
    stream = {"url": "http://host/a", "live": False, "damaged": "drop", "user": "u", "password": "p"}
    (source,) = build_sources(parse_config({"streams": [stream]}, where="test"))
    assert (source.live, source.damaged, source.url) == (False, "drop", "http://u:p@host/a")
