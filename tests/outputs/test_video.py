"""The overlay video, read back."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streamseg.errors import OutputError, UsageError
from streamseg.outputs import OutputRunner, VideoOutput
from streamseg.outputs.encoder import Encode
from streamseg.overlay.palette import PALETTE
from streamseg.types import Frame, StreamEnd, StreamWriter
from tests.support.clips import (
    COLOURS,
    TIME_BASE,
    frame,
    info,
    instances,
    read_audio,
    read_video,
    result_of,
    write_tone_clip,
)


def write(writer: StreamWriter, *frames: Frame, boxes: Sequence[tuple[int, int, int, int]] = ()) -> None:
    for f in frames:
        found = instances((f.width, f.height), boxes)
        writer.write(result_of(f, found), f, found)


@pytest.mark.parametrize("size", [(64, 48), (321, 241), (1280, 544), (960, 720)])
def test_size_and_colours_are_the_sources(tmp_path: Path, size: tuple[int, int]) -> None:
    """The file says which matrix its colours were made with, and it was that one."""
    writer = VideoOutput(str(tmp_path / "a.mp4")).open(info())
    write(writer, *[frame(i, size=size) for i in range(3)])
    writer.close(StreamEnd.ENDED)
    with av.open(str(tmp_path / "a.mp4")) as container:
        pictures = list(container.decode(video=0))
    assert [(p.width, p.height) for p in pictures] == [size] * 3
    hd = size[0] >= 1280 or size[1] >= 720
    assert (pictures[2].color_range, pictures[2].colorspace) == (1, 1 if hd else 6), "limited; BT.709 or 601"
    bar = np.arange(6) * size[0] // 6 + size[0] // 12  # the middles: 4:2:0 mixes colours at the edges
    luma = pictures[2].to_ndarray()[..., : size[1], : size[0]].reshape(-1, size[1], size[0])[0]
    weights = (0.2126, 0.7152, 0.0722) if hd else (0.299, 0.587, 0.114)
    expected = 16 + 219 / 255 * np.array(COLOURS) @ weights
    np.testing.assert_allclose(luma[:, bar].mean(axis=0), expected, atol=3)
    found = pictures[2].to_ndarray(format="rgb24")[:, bar].astype(int)
    assert np.abs(found - np.array(COLOURS)).mean() < 3
    assert np.abs(found.mean(axis=0) - np.array(COLOURS)).max() < 6


def test_masks_are_painted(tmp_path: Path) -> None:
    writer = VideoOutput(str(tmp_path / "a.mp4")).open(info())
    black = np.zeros((240, 320, 3), np.uint8)
    write(writer, frame(0, pixels=black), boxes=((100, 100, 200, 200),))
    writer.close(StreamEnd.ENDED)
    _, (picture,) = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(picture[150, 150], 0.42 * np.array(PALETTE[0]), atol=8)


@pytest.mark.parametrize(
    "time_base", [TIME_BASE, Fraction(1, 90000), Fraction(1, 1000), Fraction(1, 10), Fraction(1001, 30000)]
)
@pytest.mark.parametrize("first", [0, 7])
def test_time_stamps_are_kept_to_the_tick(tmp_path: Path, time_base: Fraction, first: int) -> None:
    """Variable frame rate, a first picture later than 0, every container's time base."""
    ticks = [first + t for t in (0, 1, 2, 5, 6, 11, 12, 13, 40, 41)]
    writer = VideoOutput(str(tmp_path / "a.mp4")).open(info(time_base=time_base))
    write(writer, *[replace(frame(i, ticks=t), time_base=time_base) for i, t in enumerate(ticks)])
    writer.close(StreamEnd.ENDED)
    with av.open(str(tmp_path / "a.mp4")) as container:
        found = [f.pts * f.time_base for f in container.decode(video=0)]
    assert found == [t * time_base for t in ticks]


def test_a_part_of_a_file_begins_at_its_start(tmp_path: Path) -> None:
    writer = VideoOutput(str(tmp_path / "a.mp4")).open(info(start=2.0))
    write(writer, *[frame(i) for i in range(50, 60)])
    writer.close(StreamEnd.ENDED)
    times, _ = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(times, np.arange(10) / 25)


def test_time_stamps_that_stand_still_are_moved_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = VideoOutput(str(tmp_path / "a.mp4")).open(info())
    write(writer, *[frame(i, ticks=t) for i, t in enumerate([-512, 0, 0, -100, 512])])
    writer.close(StreamEnd.ENDED)
    times, _ = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(np.array(times) * 12800, [0, 512, 513, 514, 1024])
    assert len([r for r in caplog.records if "do not increase" in r.message]) == 1


def test_a_live_stream_begins_at_0_and_goes_on_after_a_reconnect(tmp_path: Path) -> None:
    writer = VideoOutput(str(tmp_path / "a.mp4")).open(info(live=True))
    write(writer, *[frame(i, ticks=90_000 + i * 512, at=1000 + i / 25) for i in range(5)])
    writer.begin_epoch(info(live=True, epoch=1))
    write(writer, *[frame(5 + i, epoch=1, ticks=i * 512, at=1003 + i / 25) for i in range(5)])
    writer.close(StreamEnd.ENDED)
    times, _ = read_video(tmp_path / "a.mp4")
    np.testing.assert_allclose(times, [0, 0.04, 0.08, 0.12, 0.16, 3.0, 3.04, 3.08, 3.12, 3.16], atol=1e-3)


def test_another_size_goes_on_in_another_part(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = VideoOutput(str(tmp_path / "a.mp4")).open(info(live=True))
    write(writer, *[frame(i) for i in range(3)])
    writer.begin_epoch(info(live=True, epoch=1, width=96, height=64))
    write(writer, *[frame(i, epoch=1, size=(96, 64)) for i in range(4)])
    writer.close(StreamEnd.ENDED)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "a.part2.mp4"]
    assert [p.shape for p in read_video(tmp_path / "a.mp4")[1]] == [(48, 64, 3)] * 3
    times, pictures = read_video(tmp_path / "a.part2.mp4")
    assert (len(times), times[0], pictures[0].shape) == (4, 0.0, (64, 96, 3))
    assert "a.part2.mp4" in caplog.text


def test_a_camera_goes_on_in_another_file_after_a_while(tmp_path: Path) -> None:
    writer = VideoOutput(str(tmp_path / "a.mp4"), part_seconds=2).open(info(live=True))
    write(writer, *[frame(i, at=1000 + i / 25) for i in range(125)])
    writer.close(StreamEnd.ENDED)
    parts = [read_video(tmp_path / name)[0] for name in ("a.mp4", "a.part2.mp4", "a.part3.mp4")]
    assert [len(times) for times in parts] == [50, 50, 25]
    assert [times[0] for times in parts] == [0, 0, 0]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_recorded_file_is_never_split(tmp_path: Path) -> None:
    writer = VideoOutput(str(tmp_path / "a.mp4"), part_seconds=0.1).open(info())
    write(writer, *[frame(i, at=1000 + i) for i in range(9)])
    writer.close(StreamEnd.ENDED)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(("name", "codec", "container"), [("a.mp4", "aac", None), ("a.ts", "aac", "mpegts")])
def test_sound_is_copied(tmp_path: Path, name: str, codec: str, container: str | None) -> None:
    write_tone_clip(tmp_path / name, seconds=2, codec=codec, container=container)
    writer = VideoOutput(f"{tmp_path}/out/").open(info(url=str(tmp_path / name), has_audio=True))
    offset = 0 if name == "a.mp4" else round(1.4 * 12800)
    write(writer, *[frame(i, ticks=offset + i * 512) for i in range(50)])
    writer.close(StreamEnd.ENDED)
    source, copy = read_audio(tmp_path / name), read_audio(tmp_path / "out" / "cam.mp4")
    wanted = [s for s in source if s[0] >= 0]
    assert len(copy) == len(wanted) > 80
    np.testing.assert_allclose([c[0] for c in copy], [w[0] for w in wanted], atol=1e-3)
    if name == "a.mp4":  # MPEG-TS wraps every packet in a header that mp4 does without
        assert [c[1] for c in copy] == [w[1] for w in wanted]
    with av.open(str(tmp_path / "out" / "cam.mp4")) as opened:
        assert sum(f.samples for f in opened.decode(audio=0)) > 80 * 1024


def test_sound_of_a_part(tmp_path: Path) -> None:
    write_tone_clip(tmp_path / "a.mp4", seconds=4)
    writer = VideoOutput(f"{tmp_path}/out/").open(
        info(url=str(tmp_path / "a.mp4"), has_audio=True, start=1.0, end=2.0)
    )
    write(writer, *[frame(i) for i in range(25, 50)])
    writer.close(StreamEnd.ENDED)
    copy = read_audio(tmp_path / "out" / "cam.mp4")
    wanted = [(s - 1.0, data) for s, data in read_audio(tmp_path / "a.mp4") if 1.0 <= s < 2.0]
    assert [c[1] for c in copy] == [w[1] for w in wanted]
    np.testing.assert_allclose([c[0] for c in copy], [w[0] for w in wanted], atol=1e-3)


@pytest.mark.parametrize(
    ("ending", "codec"), [("mkv", "pcm_s16le"), ("avi", "pcm_s16le"), ("mov", "pcm_mulaw")]
)
def test_sound_that_mp4_cannot_hold_is_encoded_anew(tmp_path: Path, ending: str, codec: str) -> None:
    path = tmp_path / f"a.{ending}"
    write_tone_clip(path, seconds=2, codec=codec)
    writer = VideoOutput(f"{tmp_path}/out/").open(info(url=str(path), has_audio=True))
    write(writer, *[frame(i) for i in range(50)])
    writer.close(StreamEnd.ENDED)
    with av.open(str(tmp_path / "out" / "cam.mp4")) as opened:
        assert opened.streams.audio[0].codec_context.name == "aac"
        sound = np.concatenate([f.to_ndarray()[0] for f in opened.decode(audio=0)])
    assert len(sound) == pytest.approx(2 * 48000, abs=3000)
    assert np.abs(sound[4800:-4800]).max() > 0.3


def test_a_source_that_vanished_costs_the_sound_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    writer = VideoOutput(str(tmp_path / "out.mp4")).open(info(url=str(tmp_path / "gone.mp4"), has_audio=True))
    write(writer, *[frame(i) for i in range(5)])
    writer.close(StreamEnd.ENDED)
    assert len(read_video(tmp_path / "out.mp4")[0]) == 5
    assert "no more sound" in caplog.text


def test_an_incomplete_stream_keeps_its_partial_name_and_plays(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("from an earlier run")
    writer = VideoOutput(str(tmp_path / "a.mp4")).open(info())
    write(writer, *[frame(i) for i in range(5)])
    writer.close(StreamEnd.FAILED)
    assert (tmp_path / "a.mp4").read_text() == "from an earlier run"
    assert len(read_video(tmp_path / "a.mp4.partial")[0]) == 5


def test_no_pictures_no_video(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    writer = VideoOutput(str(tmp_path / "a.mp4")).open(info())
    writer.close(StreamEnd.ENDED)
    assert list(tmp_path.iterdir()) == []
    assert "no pictures" in caplog.text


def test_a_finished_file_is_a_plain_mp4(tmp_path: Path) -> None:
    """No fragments are left, which some players and editors do not take."""
    writer = VideoOutput(str(tmp_path / "a.mp4")).open(info())
    write(writer, *[frame(i) for i in range(100)])
    writer.close(StreamEnd.ENDED)
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


def test_videos_of_several_streams_are_encoded_side_by_side(tmp_path: Path) -> None:
    """Each has its own pictures, trails and labels; one that fails leaves the others alone."""
    errors: list[Exception] = []
    output = VideoOutput(str(tmp_path / "{stream}.mp4"), several=True)
    output.writers_at_once = 3
    runner = OutputRunner(output, on_error=errors.append)
    runner.start()
    shades = {"a": 50, "b": 120, "c": 200}
    backlogs = [runner.open(info(stream)) for stream in shades]
    for i in range(20):
        for backlog in backlogs:
            pixels = np.full((48, 64, 3), shades[backlog.stream], np.uint8)
            taken = frame(i, stream=backlog.stream, pixels=pixels)
            backlog.put(result_of(taken), taken, instances())
    for backlog, end in zip(backlogs, (StreamEnd.ENDED, StreamEnd.FAILED, StreamEnd.STOPPED), strict=True):
        backlog.close(end)
    runner.finish(30)
    assert errors == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4.partial", "c.mp4"]
    for path in tmp_path.iterdir():
        times, pictures = read_video(path)
        np.testing.assert_allclose(times, np.arange(20) / 25)
        assert np.abs(np.array(pictures).astype(int) - shades[path.name[0]]).max() <= 2


def test_sound_of_a_stream_that_was_stopped_ends_with_its_pictures(tmp_path: Path) -> None:
    write_tone_clip(tmp_path / "a.mp4", seconds=2)
    lengths = []
    for end in (StreamEnd.ENDED, StreamEnd.STOPPED):
        writer = VideoOutput(f"{tmp_path}/out/").open(info(url=str(tmp_path / "a.mp4"), has_audio=True))
        write(writer, *[frame(i) for i in range(10)])
        writer.close(end)
        lengths.append(read_audio(tmp_path / "out" / "cam.mp4")[-1][0])
    assert lengths[0] > 1.9
    assert 0.3 < lengths[1] < 0.4


def test_a_stream_that_comes_back_has_a_writer_without_a_past(tmp_path: Path) -> None:
    output = VideoOutput(str(tmp_path / "a.mp4"))
    for stamps in (range(5), range(3)):
        writer = output.open(info())
        write(writer, *map(frame, stamps))
        writer.close(StreamEnd.ENDED)
        assert len(read_video(tmp_path / "a.mp4")[0]) == len(stamps)


def test_a_part_that_cannot_get_its_name_stays_where_it_is(tmp_path: Path) -> None:
    writer = VideoOutput(str(tmp_path / "a.mp4"), part_seconds=1).open(info(live=True))
    write(writer, *[frame(i, at=1000 + i / 25) for i in range(25)])
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*a\.mp4: Is a directory"):
        write(writer, frame(25, at=1001))
    writer.close(StreamEnd.FAILED)
    assert len(read_video(tmp_path / "a.mp4.partial")[0]) == 25


def test_without_nvenc_the_processor_encodes_and_one_line_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = VideoOutput(str(tmp_path / "{stream}.mp4"), several=True, encode="nvenc")
    for stream in ("a", "b"):
        writer = output.open(info(stream))
        write(writer, *[frame(i) for i in range(10)])
        writer.close(StreamEnd.ENDED)
        times, pictures = read_video(tmp_path / f"{stream}.mp4")
        assert len(times) == len(pictures) == 10
    lines = [record.getMessage() for record in caplog.records if "encode" in record.getMessage()]
    if not lines:
        pytest.skip("this machine encodes with nvenc")
    (line,) = lines
    assert line.startswith("encode: nvenc cannot be used (")
    assert line.endswith("), the CPU encodes")


@pytest.mark.parametrize("encode", ["auto", "x264"])
def test_the_processor_encodes_without_a_word(
    tmp_path: Path, encode: Encode, caplog: pytest.LogCaptureFixture
) -> None:
    writer = VideoOutput(str(tmp_path / "a.mp4"), encode=encode).open(info())
    write(writer, frame(0))
    writer.close(StreamEnd.ENDED)
    assert b"x264" in (tmp_path / "a.mp4").read_bytes()
    assert not caplog.records


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="encode 'x265': allowed are auto, x264, nvenc"):
        VideoOutput(str(tmp_path / "a.mp4"), encode="x265")  # type: ignore[arg-type]


def test_a_disk_that_fails_is_no_fault_of_the_encoder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What x264 cannot do either is an error of the output."""
    (tmp_path / "a").mkdir()
    writer = VideoOutput(str(tmp_path / "a" / "a.mp4"), encode="nvenc").open(info())
    (tmp_path / "a" / "a.mp4.partial").unlink()
    (tmp_path / "a").rmdir()
    with pytest.raises(OutputError, match=r"a\.mp4"):
        write(writer, frame(0))
