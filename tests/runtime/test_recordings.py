"""Recordings as people have them, from the file to the overlay and its results."""

from __future__ import annotations

import os
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamseg.outputs import VideoOutput
from streamseg.sources import Source
from streamseg.types import FrameResult
from tests.support.broker import wait_for
from tests.support.clips import read_audio, read_video
from tests.support.flashes import FPS, beeps, flashes, write_flashes
from tests.support.media import write_clip, write_two_sizes
from tests.support.runs import Run


def overlay(source: Path | str, out: Path, **options: object) -> list[FrameResult]:
    """Write the overlay of a recording; the results."""
    read = Source(id="clip", url=str(source), live=False, **options)  # type: ignore[arg-type]
    with Run([read], outputs=[VideoOutput(str(out))]) as run:
        wait_for(lambda: run.stream("clip").over, seconds=40, what="the end of the clip")
    assert run.stream("clip").error is None
    return run.results.get("clip", [])


def joined(folder: Path, *starts: float, codec: str | None = "aac", frames: int = 20) -> Path:
    """A transport stream of clips whose clocks begin at these seconds."""
    parts = [
        write_flashes(folder / f"{k}.ts", start=start, codec=codec, frames=frames)
        for k, start in enumerate(starts)
    ]
    path = folder / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def check_together(path: Path, count: int) -> None:
    seen, heard = flashes(path), beeps(path)
    assert len(seen) == len(heard) == count
    assert np.abs(np.array(seen) - np.array(heard)).max() < 1 / FPS


@pytest.mark.parametrize("starts", [(0, 0), (7.0, 0.0), (0.0, 3000.0), (53_127.0, 2.0, 53_127.0)])
@pytest.mark.parametrize("codec", [None, "aac"])
def test_time_goes_on_where_a_recordings_clock_begins_anew(
    tmp_path: Path, starts: tuple[float, ...], codec: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    results = overlay(joined(tmp_path, *starts, codec=codec), tmp_path / "out.mp4")
    times, _ = read_video(tmp_path / "out.mp4")
    assert len(results) == len(times) == 20 * len(starts)
    off = 0.025 if codec else 1e-4  # sound may end a little later than the pictures
    np.testing.assert_allclose(np.diff(times), 1 / FPS, atol=off)
    np.testing.assert_allclose(np.diff([result.pts for result in results]), 1 / FPS, atol=off)
    assert times[0] == 0
    assert "time stamps jump" in caplog.text
    if codec:
        check_together(tmp_path / "out.mp4", 2 * len(starts))


@pytest.mark.parametrize("start", [95_442.7, 53_127.0])
def test_an_overlay_begins_at_0_and_results_keep_the_clock(tmp_path: Path, start: float) -> None:
    """A transport stream's clock wraps at 95,443.7 s, and broadcasts begin anywhere."""
    path = write_flashes(tmp_path / "a.ts", start=start, frames=40)
    with av.open(str(path)) as container:
        begins = container.streams.video[0].start_time / 90_000
    results = overlay(path, tmp_path / "out.mp4")
    times, _ = read_video(tmp_path / "out.mp4")
    np.testing.assert_allclose(times, np.arange(40) / FPS, atol=1e-4)
    np.testing.assert_allclose([result.pts for result in results], begins + np.arange(40) / FPS, atol=1e-4)
    check_together(tmp_path / "out.mp4", 4)


@pytest.mark.parametrize("encoder", ["libx264", "mpeg4"])
def test_avi_with_b_frames(tmp_path: Path, encoder: str) -> None:
    path = write_clip(tmp_path / "a.avi", frames=30, fps=10, bframes=2, encoder=encoder, width=64, height=48)
    results = overlay(path, tmp_path / "out.mp4")
    np.testing.assert_allclose([result.pts for result in results], np.arange(30) / 10, atol=1e-6)
    np.testing.assert_allclose(read_video(tmp_path / "out.mp4")[0], np.arange(30) / 10, atol=1e-4)


@pytest.mark.parametrize(("ending", "codec"), [("mkv", "pcm_s16le"), ("avi", "pcm_s16le"), ("mkv", "aac")])
def test_sound_is_heard_with_its_picture(tmp_path: Path, ending: str, codec: str) -> None:
    path = write_flashes(tmp_path / f"a.{ending}", codec=codec, frames=60)
    overlay(path, tmp_path / "out.mp4")
    check_together(tmp_path / "out.mp4", 6)


def test_a_pipe_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = write_flashes(tmp_path / "a.ts").read_bytes()
    pipe = tmp_path / "pipe.ts"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=pipe.write_bytes, args=(data,))
    feeder.start()
    results = overlay(pipe, tmp_path / "out.mp4")
    feeder.join()
    assert len(results) == len(read_video(tmp_path / "out.mp4")[0]) == 20
    assert caplog.text.count("read only once") == 1


def test_another_size_begins_another_part(tmp_path: Path) -> None:
    results = overlay(write_two_sizes(tmp_path), tmp_path / "out.mp4")
    assert [(r.width, r.height) for r in results] == [(160, 120)] * 10 + [(320, 240)] * 10
    assert {r.epoch for r in results} == {0}
    first, second = read_video(tmp_path / "out.mp4"), read_video(tmp_path / "out.part2.mp4")
    assert [picture.shape for picture in (first[1][0], second[1][0])] == [(120, 160, 3), (240, 320, 3)]
    for times, _ in (first, second):
        np.testing.assert_allclose(times, np.arange(10) / 25, atol=1e-4)


def test_sound_goes_on_in_the_next_part(tmp_path: Path) -> None:
    parts = [
        write_flashes(tmp_path / f"{k}.ts", start=k, size=size) for k, size in enumerate([(64, 48), (96, 64)])
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    overlay(path, tmp_path / "out.mp4")
    check_together(tmp_path / "out.mp4", 2)
    check_together(tmp_path / "out.part2.mp4", 2)
    assert read_audio(tmp_path / "out.mp4")[-1][0] < 1.1, "and no more of it"


@pytest.mark.parametrize("often", [1, 2])
def test_sizes_that_change_all_the_time_do_not_stop_the_run(tmp_path: Path, often: int) -> None:
    """More changes than a ring has slots."""
    path = tmp_path / "many.h264"
    small = write_clip(tmp_path / "small.h264", frames=often, width=64, height=48, bframes=0).read_bytes()
    big = write_clip(tmp_path / "big.h264", frames=often, width=96, height=64, bframes=0).read_bytes()
    path.write_bytes((small + big) * 40)
    read = Source(id="clip", url=str(path), live=False)
    with Run([read], max_batch=1) as run:
        wait_for(lambda: run.stream("clip").over, seconds=40, what="the end of the clip")
    assert len(run.results["clip"]) == 80 * often


def test_pixels_that_are_not_square_stay_so_in_the_overlay(tmp_path: Path) -> None:
    path = tmp_path / "dv.mp4"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 72, 58, "yuv420p"
        video.codec_context.sample_aspect_ratio = Fraction(64, 45)
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((58, 72, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    results = overlay(path, tmp_path / "out.mp4")
    assert {(r.width, r.height) for r in results} == {(72, 58)}
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(64, 45)
        assert (container.streams.video[0].width, container.streams.video[0].height) == (72, 58)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    starts=st.lists(st.sampled_from([0.0, 0.5, 1.0, 9.0, 400.0, 95_400.0]), min_size=1, max_size=4),
    frames=st.integers(10, 25),
)
def test_nothing_is_lost_however_recordings_are_joined(
    tmp_path_factory: pytest.TempPathFactory, starts: list[float], frames: int
) -> None:
    folder = tmp_path_factory.mktemp("joined")
    results = overlay(joined(folder, *starts, frames=frames), folder / "out.mp4")
    times, _ = read_video(folder / "out.mp4")
    assert len(results) == len(times) == frames * len(starts)
    assert (np.diff(times) > 0).all()
    seen, heard = flashes(folder / "out.mp4"), beeps(folder / "out.mp4")
    assert len(seen) == len(starts) * len(range(5, frames, 10))
    for at in heard:
        assert min(abs(at - flash) for flash in seen) < 1 / FPS
