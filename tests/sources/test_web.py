"""Cameras and recordings behind HTTP: told apart by what the server answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from streamseg.sources import Backoff, Source, SourcePool, Timing, resolve_sources, source_for
from streamseg.types import FramePolicy
from tests.support.media import write_clip
from tests.support.reading import Listener
from tests.support.servers import free_port
from tests.support.web_cameras import Served, web_cameras, write_segments

QUICK = Backoff(first=0.05, longest=0.2, refused=0.05, refused_longest=0.2)
FPS = 8.0


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "whole.mp4", frames=40)
    write_clip(folder / "fragments.mp4", frames=40, muxer={"movflags": "frag_keyframe+empty_moov"})
    write_clip(folder / "whole.mkv", frames=40)
    write_clip(folder / "whole.ts", frames=40, bframes=0)
    write_clip(folder / "rare.ts", frames=400, bframes=0, gop=125)
    write_segments(folder / "hls", count=30)
    return folder


@pytest.fixture
def server(media: Path) -> Iterator[Served]:
    with web_cameras(media, fps=FPS) as served:
        yield served


def named(url: str, **options: bool) -> Source:
    return source_for(url, stream_id="cam", **options)


@pytest.mark.parametrize(
    ("path", "policy"),
    [
        ("paced/rare.ts", FramePolicy.NEWEST_FRAME),
        ("bytes/fragments.mp4", FramePolicy.NEWEST_FRAME),
        ("live/hls/index", FramePolicy.NEWEST_FRAME),
        ("bytes/whole.mp4", FramePolicy.EVERY_FRAME),
        ("bytes/whole.mkv", FramePolicy.EVERY_FRAME),
        ("files/whole.ts", FramePolicy.EVERY_FRAME),
        ("files/fragments.mp4", FramePolicy.EVERY_FRAME),
        ("live/hls/vod.m3u8", FramePolicy.EVERY_FRAME),
    ],
)
def test_the_answer_says_what_it_is(server: Served, path: str, policy: FramePolicy) -> None:
    listener = Listener()
    with SourcePool([named(f"{server.url}/{path}")], emit=listener, backoff=QUICK):
        listener.wait(lambda: listener.infos)
        assert listener.infos[0].policy is policy
        if policy is FramePolicy.EVERY_FRAME:
            listener.wait_for_end("cam")
            assert listener.ended["cam"].error is None
    if policy is FramePolicy.EVERY_FRAME:
        count = 1500 if "hls" in path else 40
        assert listener.counters("cam") == [number % 65536 for number in range(count)]


@pytest.mark.parametrize("live", [True, False])
def test_the_key_live_decides(server: Served, live: bool) -> None:
    listener = Listener()
    with SourcePool([named(f"{server.url}/files/whole.mp4", live=live)], emit=listener, backoff=QUICK):
        listener.wait(lambda: listener.infos)
    assert (listener.infos[0].policy is FramePolicy.NEWEST_FRAME) is live


@pytest.mark.parametrize("path", ["mjpeg", "chunked"])
def test_frames_without_a_time_get_that_of_their_arrival(server: Served, path: str) -> None:
    listener = Listener()
    with SourcePool([named(f"{server.url}/{path}")], emit=listener):
        listener.wait(lambda: len(listener.seen.get("cam", [])) >= 30)
    (info,) = listener.infos
    assert info.policy is FramePolicy.NEWEST_FRAME
    assert info.fps is None, "25 would be made up"
    seen = listener.seen["cam"][20:]  # behind those that were buffered while it was opened
    seconds = [frame.ticks * float(info.time_base) for frame in seen]
    assert (np.diff(seconds) > 0).all()
    assert (seconds[-1] - seconds[0]) / (len(seen) - 1) == pytest.approx(1 / FPS, rel=0.3)
    assert [frame.counter for frame in seen] == list(range(seen[0].counter, seen[0].counter + len(seen)))
    assert seconds[-1] - seconds[0] == pytest.approx(seen[-1].time - seen[0].time, abs=0.2)


def test_a_web_camera_comes_back_and_does_not_fall_behind(server: Served) -> None:
    listener = Listener()
    with SourcePool([named(f"{server.url}/mjpeg")], emit=listener, backoff=QUICK, slots=3):
        listener.wait(lambda: len(listener.seen.get("cam", [])) >= 5)
        server.broken = True
        listener.wait(lambda: "5XX" in str(listener.last("cam").error))
        server.broken = False
        began = time.monotonic()
        listener.wait(lambda: any(seen.epoch == 1 for seen in listener.seen["cam"]))
        assert time.monotonic() - began < 10
    assert listener.states("cam") == ["connecting", "live", "connecting", "live", "ended"]
    indices = [seen.index for seen in listener.seen["cam"]]
    assert listener.decoded("cam") == indices[-1] + 1


def test_a_web_camera_that_is_away_at_first_is_waited_for_and_a_recording_is_not(media: Path) -> None:
    port = free_port()
    sources = [
        source_for(f"http://127.0.0.1:{port}/video.cgi", stream_id="cam"),
        source_for(f"http://127.0.0.1:{port}/clip.mp4", stream_id="clip"),
    ]
    listener = Listener()
    with SourcePool(sources, emit=listener, backoff=QUICK):
        listener.wait(lambda: len([c for c in listener.changes if c.stream == "cam"]) > 4)
        listener.wait_for_end("clip")
        assert "cam" not in listener.ended
        assert "counts as a camera until it answers" in str(listener.last("cam").error)
    assert listener.error("clip").endswith("clip.mp4: Connection refused")


def test_cameras_named_like_files_keep_no_file_waiting(server: Served, media: Path) -> None:
    names = [f"{server.url}/bytes/fragments.mp4", f"{server.url}/paced/rare.ts"]
    sources = resolve_sources([*names, str(media / "whole.mp4")])
    listener = Listener()
    with SourcePool(sources, emit=listener, backoff=QUICK, max_workers=1):
        listener.wait_for_end("whole")
        assert len(listener.infos) >= 3
    assert listener.counters("whole") == list(range(40))


@pytest.mark.parametrize(
    "url", ["http://no-such-host.invalid/a.mp4", "rtsp://u:secret@no-such-host.invalid/a"]
)
def test_a_name_that_is_not_found_is_called_that(url: str) -> None:
    listener = Listener()
    with SourcePool([named(url)], emit=listener, backoff=QUICK):
        listener.wait(lambda: listener.last("cam").error if listener.changes else None)
    assert "the host no-such-host.invalid is not found (" in str(listener.last("cam").error)
    assert "secret" not in str(listener.events)


def test_a_key_frame_that_never_comes_is_what_is_told(server: Served) -> None:
    listener = Listener()
    source = Source(id="cam", url=f"{server.url}/paced/rare.ts", live=True, reconnect_attempts=0)
    with SourcePool([source], emit=listener, timing=Timing(key_frame=0.1)):
        listener.wait_for_end("cam")
    assert listener.error("cam").endswith("no key frame came for 0.1 s")


def test_segments_are_spread_over_their_time(server: Served) -> None:
    """A segment of 50 frames comes at once; what looks at one frame each 10 ms sees all but none of them."""
    listener = Listener()
    with SourcePool([named(f"{server.url}/live/hls/index.m3u8")], emit=listener):
        listener.wait(lambda: len(listener.seen.get("cam", [])) >= 120)
    seen = listener.seen["cam"]
    arrivals = np.array([frame.decoded_at for frame in seen])
    gaps = np.diff(arrivals)
    assert np.mean(gaps > 0.02) > 0.9, "they come one by one"
    assert listener.decoded("cam") == seen[-1].index + 1
    behind = arrivals - np.array([frame.ticks for frame in seen]) * float(listener.infos[0].time_base)
    assert np.ptp(behind) < 3.0, "the lag stays below a segment and a look at the playlist"
