"""The overlay video, read back."""

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamseg.errors import UsageError
from streamseg.outputs import VideoOutput
from streamseg.overlay.paint import PALETTE
from tests.support.broker import wait_for
from tests.support.clips import (
    TIME_BASE,
    bars,
    frame,
    info,
    instances,
    read_audio,
    read_video,
    result_of,
    write_clip,
)


def write(output: VideoOutput, *frames: object, boxes: tuple[tuple[int, int, int, int], ...] = ()) -> None:
    for f in frames:
        output.write(result_of(f), f, instances((f.width, f.height), boxes))  # type: ignore[arg-type, attr-defined]


@pytest.mark.parametrize("size", [(64, 48), (321, 241), (1280, 720)])
def test_size_and_colours_are_the_sources(tmp_path: Path, size: tuple[int, int]) -> None:
    output = VideoOutput(str(tmp_path / "a.mp4"))
    output.open(info())
    write(output, *[frame(i, size=size) for i in range(3)])
    output.close("cam", complete=True)
    _, pictures = read_video(tmp_path / "a.mp4")
    assert [p.shape for p in pictures] == [(size[1], size[0], 3)] * 3
    bar = np.arange(6) * size[0] // 6 + size[0] // 12  # the middles: 4:2:0 mixes colours at the edges
    error = np.abs(pictures[2][:, bar].astype(int) - bars(*size)[:, bar]).mean()
    assert error < 3
    with av.open(str(tmp_path / "a.mp4")) as container:
        picture = next(container.decode(video=0))
    assert picture.color_range == 1, "limited"
    assert picture.colorspace == (1 if size[1] >= 720 else 6)


def test_masks_are_painted(tmp_path: Path) -> None:
    output = VideoOutput(str(tmp_path / "a.mp4"))
    output.open(info())
    black = np.zeros((240, 320, 3), np.uint8)
    write(output, frame(0, pixels=black), boxes=((100, 100, 200, 200),))
    output.close("cam", complete=True)
    _, (picture,) = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(picture[150, 150], 0.42 * np.array(PALETTE[0]), atol=8)


@pytest.mark.parametrize(
    "time_base", [TIME_BASE, Fraction(1, 90000), Fraction(1, 1000), Fraction(1, 10), Fraction(1001, 30000)]
)
@pytest.mark.parametrize("first", [0, 7])
def test_time_stamps_are_kept_to_the_tick(tmp_path: Path, time_base: Fraction, first: int) -> None:
    """Variable frame rate, a first picture later than 0, every container's time base."""
    from dataclasses import replace

    ticks = [first + t for t in (0, 1, 2, 5, 6, 11, 12, 13, 40, 41)]
    output = VideoOutput(str(tmp_path / "a.mp4"))
    output.open(info(time_base=time_base))
    write(output, *[replace(frame(i, ticks=t), time_base=time_base) for i, t in enumerate(ticks)])
    output.close("cam", complete=True)
    with av.open(str(tmp_path / "a.mp4")) as container:
        found = [f.pts * f.time_base for f in container.decode(video=0)]
    assert found == [t * time_base for t in ticks]


def test_a_part_of_a_file_begins_at_its_start(tmp_path: Path) -> None:
    output = VideoOutput(str(tmp_path / "a.mp4"))
    output.open(info(start=2.0))
    write(output, *[frame(i) for i in range(50, 60)])
    output.close("cam", complete=True)
    times, _ = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(times, np.arange(10) / 25)


def test_time_stamps_that_stand_still_are_moved_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = VideoOutput(str(tmp_path / "a.mp4"))
    output.open(info())
    write(output, *[frame(i, ticks=t) for i, t in enumerate([-512, 0, 0, -100, 512])])
    output.close("cam", complete=True)
    times, _ = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(np.array(times) * 12800, [0, 512, 513, 514, 1024])
    assert len([r for r in caplog.records if "do not increase" in r.message]) == 1


def test_a_live_stream_begins_at_0_and_goes_on_after_a_reconnect(tmp_path: Path) -> None:
    output = VideoOutput(str(tmp_path / "a.mp4"))
    output.open(info(live=True))
    write(output, *[frame(i, ticks=90_000 + i * 512, at=1000 + i / 25) for i in range(5)])
    output.open(info(live=True, epoch=1))
    write(output, *[frame(5 + i, epoch=1, ticks=i * 512, at=1003 + i / 25) for i in range(5)])
    output.close("cam", complete=True)
    times, _ = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(times, [0, 0.04, 0.08, 0.12, 0.16, 3.0, 3.04, 3.08, 3.12, 3.16], atol=1e-3)


def test_another_size_goes_on_in_another_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = VideoOutput(str(tmp_path / "a.mp4"))
    output.open(info(live=True))
    write(output, *[frame(i) for i in range(3)])
    output.open(info(live=True, epoch=1, width=96, height=64))
    write(output, *[frame(i, epoch=1, size=(96, 64)) for i in range(4)])
    output.close("cam", complete=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "a.part2.mp4"]
    assert [p.shape for p in read_video(tmp_path / "a.mp4")[1]] == [(48, 64, 3)] * 3
    times, pictures = read_video(tmp_path / "a.part2.mp4")
    assert (len(times), times[0], pictures[0].shape) == (4, 0.0, (64, 96, 3))
    assert "a.part2.mp4" in caplog.text


def test_a_camera_goes_on_in_another_file_after_a_while(tmp_path: Path) -> None:
    output = VideoOutput(str(tmp_path / "a.mp4"), part_seconds=2)
    output.open(info(live=True))
    write(output, *[frame(i, at=1000 + i / 25) for i in range(125)])
    output.close("cam", complete=True)
    parts = [read_video(tmp_path / name)[0] for name in ("a.mp4", "a.part2.mp4", "a.part3.mp4")]
    assert [len(times) for times in parts] == [50, 50, 25]
    assert [times[0] for times in parts] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_recorded_file_is_never_split(tmp_path: Path) -> None:
    output = VideoOutput(str(tmp_path / "a.mp4"), part_seconds=0.1)
    output.open(info())
    write(output, *[frame(i, at=1000 + i) for i in range(9)])
    output.close("cam", complete=True)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(("name", "codec", "container"), [("a.mp4", "aac", None), ("a.ts", "aac", "mpegts")])
def test_sound_is_copied(tmp_path: Path, name: str, codec: str, container: str | None) -> None:
    write_clip(tmp_path / name, seconds=2, codec=codec, container=container)
    output = VideoOutput(f"{tmp_path}/out/")
    output.open(info(url=str(tmp_path / name), has_audio=True))
    offset = 0 if name == "a.mp4" else round(1.4 * 12800)
    write(output, *[frame(i, ticks=offset + i * 512) for i in range(50)])
    output.close("cam", complete=True)
    source, copy = read_audio(tmp_path / name), read_audio(tmp_path / "out" / "cam.mp4")
    wanted = [s for s in source if s[0] >= 0]
    assert len(copy) == len(wanted) > 80
    np.testing.assert_allclose([c[0] for c in copy], [w[0] for w in wanted], atol=1e-3)
    if name == "a.mp4":  # MPEG-TS wraps every packet in a header that mp4 does without
        assert [c[1] for c in copy] == [w[1] for w in wanted]
    with av.open(str(tmp_path / "out" / "cam.mp4")) as opened:
        assert sum(f.samples for f in opened.decode(audio=0)) > 80 * 1024


def test_sound_of_a_part(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", seconds=4)
    output = VideoOutput(f"{tmp_path}/out/")
    output.open(info(url=str(tmp_path / "a.mp4"), has_audio=True, start=1.0, end=2.0))
    write(output, *[frame(i) for i in range(25, 50)])
    output.close("cam", complete=True)
    copy = read_audio(tmp_path / "out" / "cam.mp4")
    wanted = [(s - 1.0, data) for s, data in read_audio(tmp_path / "a.mp4") if 1.0 <= s < 2.0]
    assert [c[1] for c in copy] == [w[1] for w in wanted]
    np.testing.assert_allclose([c[0] for c in copy], [w[0] for w in wanted], atol=1e-3)


def test_sound_that_mp4_cannot_hold_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_clip(tmp_path / "a.mkv", seconds=1, codec="pcm_s16le")
    output = VideoOutput(f"{tmp_path}/out/")
    output.open(info(url=str(tmp_path / "a.mkv"), has_audio=True))
    write(output, *[frame(i) for i in range(25)])
    output.close("cam", complete=True)
    assert read_audio(tmp_path / "out" / "cam.mp4") == []
    assert len(read_video(tmp_path / "out" / "cam.mp4")[0]) == 25
    assert "pcm_s16le audio cannot be copied" in caplog.text


def test_a_source_that_vanished_costs_the_sound_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = VideoOutput(str(tmp_path / "out.mp4"))
    output.open(info(url=str(tmp_path / "gone.mp4"), has_audio=True))
    write(output, *[frame(i) for i in range(5)])
    output.close("cam", complete=True)
    assert len(read_video(tmp_path / "out.mp4")[0]) == 5
    assert "no more audio" in caplog.text


def test_an_incomplete_stream_keeps_its_partial_name_and_plays(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("from an earlier run")
    output = VideoOutput(str(tmp_path / "a.mp4"))
    output.open(info())
    write(output, *[frame(i) for i in range(5)])
    output.close("cam", complete=False)
    assert (tmp_path / "a.mp4").read_text() == "from an earlier run"
    assert len(read_video(tmp_path / "a.mp4.partial")[0]) == 5


def test_no_pictures_no_video(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = VideoOutput(str(tmp_path / "a.mp4"))
    output.open(info())
    output.close("cam", complete=True)
    assert list(tmp_path.iterdir()) == []
    assert "no pictures" in caplog.text


def test_a_finished_file_is_a_plain_mp4(tmp_path: Path) -> None:
    """No fragments are left, which some players and editors do not take."""
    output = VideoOutput(str(tmp_path / "a.mp4"))
    output.open(info())
    write(output, *[frame(i) for i in range(100)])
    output.close("cam", complete=True)
    data, boxes, at = (tmp_path / "a.mp4").read_bytes(), [], 0
    while at < len(data):
        boxes.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4])
    assert set(boxes) - {b"free"} == {b"ftyp", b"mdat", b"moov"}
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].frames == 100
        assert container.duration == pytest.approx(4_000_000, abs=1000)


def test_unwritable_and_wrong_names_are_known_before_the_first_frame(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        VideoOutput(str(tmp_path / "file" / "a.mp4")).check(["cam"])
    with pytest.raises(UsageError, match=r"a\.avi: .*\.mp4"):
        VideoOutput(str(tmp_path / "a.avi")).check(["cam"])
    with pytest.raises(UsageError, match="several streams"):
        VideoOutput(str(tmp_path / "a.mp4"), several=True).check(["cam", "door"])


def test_one_output_several_streams(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = VideoOutput(str(tmp_path / "{stream}.mp4"), several=True)
    with caplog.at_level(logging.WARNING):
        for stream in ("a", "b"):
            output.open(info(stream))
        for i in range(4):
            write(output, frame(i, stream="a"), frame(i, stream="b"))
        output.close("a", complete=True)
        output.shutdown()
    wait_for((tmp_path / "b.mp4.partial").exists)
    assert len(read_video(tmp_path / "a.mp4")[0]) == 4
    assert not (tmp_path / "b.mp4").exists()
