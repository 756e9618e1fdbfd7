from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from streamseg.sources import Source
from streamseg.sources.decode import VideoReader
from streamseg.sources.integrity import ReadError
from streamseg.sources.pictures import UNTAGGED, PictureWriter
from tests.support.media import counter_picture, cut, read_counter, write_clip, write_sound, write_two_sizes
from tests.support.servers import closing_server

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "clips"


def source(path: Path | str, **part: object) -> Source:
    return Source(id="clip", url=str(path), live=False, **part)  # type: ignore[arg-type]


def read(path: Path | str, **part: object) -> list[tuple[int, int, int]]:
    """Number, ticks and counter of every selected frame."""
    return [entry[:3] for entry in read_pictures(path, **part)]


def read_pictures(path: Path | str, **part: object) -> list[tuple[int, int, int, np.ndarray]]:
    found: list[tuple[int, int, int, np.ndarray]] = []
    writer: PictureWriter | None = None
    with VideoReader(source(path, **part)) as reader:
        for index, frame, ticks in reader.selected():
            if writer is None or not writer.fits(frame):
                writer = PictureWriter(frame)
            picture = np.empty((writer.height, writer.width, 3), np.uint8)
            writer.write(frame, picture)
            found.append((index, ticks, read_counter(picture), picture))
    return found


def read_until_error(path: Path) -> tuple[int, str]:
    count = 0
    try:
        with VideoReader(source(path)) as reader:
            for _ in reader.selected():
                count += 1
    except ReadError as error:
        return count, str(error)
    raise AssertionError(f"{path} was read without an error")


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "ts", "flv", "mov"])
def test_every_frame_comes_in_order(tmp_path: Path, ending: str) -> None:
    frames = read(write_clip(tmp_path / f"a.{ending}", frames=40, bframes=0 if ending == "avi" else 3))
    assert [counter for _, _, counter in frames] == list(range(40))
    assert [index for index, _, _ in frames] == list(range(40))


@pytest.mark.parametrize("size", [(321, 241), (64, 48), (638, 358)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    pictures = read_pictures(write_clip(tmp_path / "a.mp4", frames=5, width=size[0], height=size[1]))
    assert pictures[0][3].shape == (size[1], size[0], 3)
    assert np.abs(pictures[4][3].astype(int) - counter_picture(4, *size)).mean() < 10


def test_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    ticks = [0, 40, 50, 400, 401, 2000, 2033]
    path = write_clip(tmp_path / "a.mkv", frames=7, ticks=ticks, time_base=Fraction(1, 1000))
    assert [ticks for _, ticks, _ in read(path)] == ticks


def test_what_is_known_of_a_file(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=50, sound=2.0)
    with VideoReader(source(path, start=1.0, stride=4)) as reader:
        assert (reader.facts.fps, reader.facts.has_audio, reader.facts.frame_count) == (25.0, True, 7)
    with VideoReader(source(path)) as reader:
        assert reader.facts.frame_count == 50


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("start", [0.0, 0.48, 2.04, 5.0, 11.96])
def test_a_part_begins_and_ends_where_it_was_told(tmp_path: Path, ending: str, start: float) -> None:
    path = write_clip(tmp_path / f"a.{ending}", frames=300, width=64, height=48, gop=70)
    first = round(start * 25)
    frames = read(path, start=start, end=start + 0.4)
    expected = [counter for counter in range(first, first + 10) if counter < 300]
    assert [counter for _, _, counter in frames] == expected
    assert [index for index, _, _ in frames] == list(range(len(expected)))


def test_skipped_frames_keep_their_numbers(tmp_path: Path) -> None:
    frames = read(write_clip(tmp_path / "a.mp4", frames=30), start=0.4, stride=7)
    assert [(index, counter) for index, _, counter in frames] == [(0, 10), (7, 17), (14, 24)]


def test_a_part_beyond_the_end_is_empty(tmp_path: Path) -> None:
    assert read(write_clip(tmp_path / "a.mp4", frames=30), start=60) == []


def test_frames_without_a_time_get_one(tmp_path: Path) -> None:
    frames = read(write_clip(tmp_path / "a.h264", frames=30))
    steps = np.diff([ticks for _, ticks, _ in frames])
    assert [counter for _, _, counter in frames] == list(range(30))
    assert steps.min() == steps.max() > 0


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_a_turned_picture_is_put_upright(tmp_path: Path, turn: int) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=3, width=160, height=96, turn=turn)
    picture = read_pictures(path)[2][3]
    upright = np.rot90(counter_picture(2, 160, 96), turn // 90)
    assert picture.shape == upright.shape
    assert np.abs(picture.astype(int) - upright).mean() < 10


def test_pictures_keep_their_size_when_it_changes(tmp_path: Path) -> None:
    pictures = read_pictures(write_two_sizes(tmp_path))
    assert [picture.shape for *_, picture in pictures] == [(120, 160, 3)] * 10 + [(240, 320, 3)] * 10
    assert [counter for _, _, counter, _ in pictures] == list(range(20))


def test_colours_are_right(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)]
    pictures = [np.full((48, 64, 3), colour, np.uint8) for colour in colours]
    path = write_clip(tmp_path / "a.mp4", pictures=pictures, bframes=0, gop=1)
    for colour, (*_, picture) in zip(colours, read_pictures(path), strict=True):
        assert np.abs(picture.reshape(-1, 3).mean(axis=0) - colour).max() < 8


COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40)]
BT709, BT601 = Colorspace.ITU709, Colorspace.ITU601
TAG_BT709, TAG_BT601 = 1, 6  # ITU-T H.273 code points


def write_colours(path: Path, size: tuple[int, int], matrix: Colorspace, tag: int | None) -> Path:
    """A clip of one colour after the other, with or without a tag that tells the matrix."""
    width, height = size
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "10"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        if tag is not None:
            video.codec_context.colorspace = tag
        for number, colour in enumerate(COLOURS):
            rgb = av.VideoFrame.from_ndarray(np.full((height, width, 3), colour, np.uint8), format="rgb24")
            frame = rgb.reformat(format="yuv420p", dst_colorspace=matrix)
            frame.colorspace = UNTAGGED if tag is None else tag
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).colorspace == (UNTAGGED if tag is None else tag)
    return path


@pytest.mark.parametrize(
    ("size", "matrix", "tag"),
    [
        ((1280, 720), BT709, None),
        ((1280, 544), BT709, None),
        ((406, 720), BT709, None),
        ((720, 576), BT601, None),
        ((1280, 720), BT601, TAG_BT601),
        ((64, 48), BT709, TAG_BT709),
    ],
)
def test_colours_go_by_the_tag_and_without_one_by_the_size(
    tmp_path: Path, size: tuple[int, int], matrix: Colorspace, tag: int | None
) -> None:
    path = write_colours(tmp_path / "a.mp4", size, matrix, tag)
    for colour, (*_, picture) in zip(COLOURS, read_pictures(path), strict=True):
        assert np.abs(picture.reshape(-1, 3).mean(axis=0) - colour).max() < 5


def test_reading_gives_signs_of_life_for_frames_left_out(tmp_path: Path) -> None:
    signs: list[int] = []
    path = write_clip(tmp_path / "a.mp4", frames=30)
    with VideoReader(source(path, stride=30), alive=lambda: signs.append(1)) as reader:
        assert len(list(reader.selected())) == 1
    assert len(signs) == 30


def test_a_title_in_another_encoding_is_no_obstacle(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", frames=10, title="Stra\u00dfe")
    path.write_bytes(path.read_bytes().replace("Stra\u00dfe".encode(), b"Stra\xdf\xdfe"))
    assert len(read(path)) == 10


FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}
INDEX_FIRST = {"movflags": "faststart"}


@pytest.mark.parametrize(
    ("ending", "keep", "muxer"),
    [
        ("mp4", 0.55, INDEX_FIRST),
        ("mp4", 0.998, INDEX_FIRST),
        ("mp4", 0.55, FRAGMENTED),
        ("mp4", 0.998, FRAGMENTED),
        ("mkv", 0.55, {}),  # and no later: it does not tell whether the last picture is missing or short
        ("avi", 0.55, {}),
        ("avi", 0.998, {}),
        ("flv", 0.55, {}),
        ("flv", 0.998, {}),
    ],
)
def test_a_file_that_was_cut_off_gives_its_good_frames_and_an_error(
    tmp_path: Path, ending: str, keep: float, muxer: dict[str, str]
) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(100)]  # bytes evenly spread
    whole = write_clip(tmp_path / f"a.{ending}", pictures=pictures, muxer=muxer, bframes=0)
    assert len(read(whole)) == 100
    count, error = read_until_error(cut(whole, tmp_path / f"cut.{ending}", keep=keep))
    assert 100 * keep - 4 <= count < 100
    assert "cut off" in error


def test_a_file_cut_off_behind_the_selected_part_is_fine(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "a.mp4", frames=100, muxer={"movflags": "faststart"})
    assert len(read(cut(whole, tmp_path / "cut.mp4", keep=0.7), end=1.0)) == 25


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "flv"])
def test_sound_longer_than_the_video_is_no_error(tmp_path: Path, ending: str) -> None:
    assert len(read(write_clip(tmp_path / f"a.{ending}", frames=25, sound=6.0))) == 25


@pytest.mark.parametrize("ending", ["mp4", "mkv"])
def test_a_long_last_picture_is_no_error(tmp_path: Path, ending: str) -> None:
    path = write_clip(tmp_path / f"a.{ending}", frames=4, ticks=[0, 1, 2, 250], sound=16.0)
    assert len(read(path)) == 4


def damage(path: Path, frame: int, *, keep: int = 0) -> None:
    """Overwrite a frame of a clip but for its first ``keep`` bytes."""
    with av.open(str(path)) as container:
        entry = list(container.streams.video[0].index_entries)[frame]
    data = bytearray(path.read_bytes())
    data[entry.pos + keep : entry.pos + entry.size] = bytes([255]) * (entry.size - keep)
    path.write_bytes(data)


def test_a_damaged_file_gives_its_other_frames_and_counts_what_is_lost(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=60, gop=10, bframes=0)
    damage(path, 20)
    with VideoReader(source(path)) as reader:
        indexes = [index for index, *_ in reader.selected()]
    assert len(indexes) == 60 - reader.damage.lost
    assert 5 < reader.damage.lost <= 10, "what was built on it is lost as well"


def test_frames_that_the_decoder_patched_up_are_counted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=60, gop=10, bframes=0)
    damage(path, 25, keep=12)
    with VideoReader(source(path)) as reader:
        assert len(list(reader.selected())) == 60
    assert reader.damage.lost == 0
    assert 1 <= reader.damage.concealed < 10


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.mp4", b"", "not a readable video"),
        ("text.mp4", b"hello\n" * 500, "not a readable video"),
        ("text.txt", b"hello\n" * 500, "no video in it"),
        ("noise.mkv", bytes(range(256)) * 20, "not a readable video"),
    ],
)
def test_what_is_not_a_video_is_an_error(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert read_until_error(tmp_path / name)[0] == 0
    assert reason in read_until_error(tmp_path / name)[1]


def test_sound_alone_a_folder_and_nothing_are_errors(tmp_path: Path) -> None:
    assert "no video in it" in read_until_error(write_sound(tmp_path / "a.m4a"))[1]
    assert "directory" in read_until_error(tmp_path)[1]
    assert "No such file" in read_until_error(tmp_path / "missing.mp4")[1]


def test_a_colon_in_the_name_makes_no_url(tmp_path: Path) -> None:
    assert len(read(write_clip(tmp_path / "a.mp4", frames=3).rename(tmp_path / "10:30.mp4"))) == 3


@pytest.mark.parametrize(
    "path", sorted(CLIPS.glob("*.mp4")) or [None], ids=lambda path: path.stem if path else "none"
)
def test_real_clips_are_read_in_full(path: Path | None) -> None:
    if path is None:
        pytest.skip("shared/clips is not beside the repository")
    with av.open(str(path)) as container:
        expected = [frame.pts for frame in container.decode(video=0)]
    with VideoReader(source(path)) as reader:
        assert [ticks for _, _, ticks in reader.selected()] == expected


@pytest.mark.parametrize("ending", ["ts", "mkv"])
def test_a_server_that_ends_by_closing_loses_no_frames(tmp_path: Path, ending: str) -> None:
    data = write_clip(tmp_path / f"a.{ending}", frames=40).read_bytes()
    with closing_server(data) as port:
        assert [counter for *_, counter in read(f"http://127.0.0.1:{port}/a.{ending}")] == list(range(40))


def until_it_ends(reader: VideoReader) -> Iterator[int]:
    """The times of a live source, whose end is always an error."""
    with suppress(ReadError):
        for _, _, ticks in reader.selected():
            yield ticks


def test_a_camera_whose_clock_jumps_goes_on(tmp_path: Path) -> None:
    """Within one connection: it sets its clock, loses it, and finds it again."""
    parts = [
        write_clip(tmp_path / f"{k}.ts", frames=25, bframes=0, ticks=range(start, start + 25))
        for k, start in enumerate([0, 90_000, 50, 75])
    ]
    notes: list[str] = []
    with closing_server(b"".join(part.read_bytes() for part in parts)) as port:
        camera = Source(id="cam", url=f"http://127.0.0.1:{port}/live.ts", live=True)
        with VideoReader(camera, note=notes.append) as reader:
            seconds = [float(ticks * reader.facts.time_base) for ticks in until_it_ends(reader)]
    assert len(seconds) >= 90
    steps = np.diff(seconds)
    assert steps.min() > 0
    assert steps.max() < 0.5, "the time that has passed on our clock, at most"
    assert len(set(notes)) == 1
    assert "jump" in notes[0]
