import os
from pathlib import Path

import pytest

from streamseg.errors import SourceError, UsageError
from streamseg.sources import Source, default_stream_id, is_live, resolve_sources, source_for
from streamseg.types import FramePolicy


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://10.0.0.5/stream1",
        "RTSPS://10.0.0.5/stream1",
        "rtmp://host/app/key",
        "udp://239.0.0.1:1234",
        "srt://host:9000",
        "https://host/live/index.m3u8?token=x",
        "http://host/video.mjpg",
        "/dev/video0",
    ],
)
def test_live_sources_take_the_newest_frame(url: str) -> None:
    assert is_live(url)
    assert source_for(url).policy is FramePolicy.NEWEST_FRAME


@pytest.mark.parametrize(
    "url", ["clip.mp4", "http://host/a.mp4?x=.m3u8", "https://host/download", "/dev/video", "file:///a.mp4"]
)
def test_recorded_sources_take_every_frame(url: str) -> None:
    assert not is_live(url)
    assert source_for(url).policy is FramePolicy.EVERY_FRAME


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("clips/monday morning.mp4", "monday-morning"),
        ("rtsp://viewer:secret@10.0.0.5:554/stream1?channel=2", "10.0.0.5-stream1"),
        ("https://host/a/b.m3u8", "host-a-b.m3u8"),
        ("rtsp://10.0.0.5:554/user=admin_password=secret_channel=1.sdp", "10.0.0.5-user-admin_password"),
        ("rtsp://me:sec/ret@10.0.0.5/1", "10.0.0.5-1"),
        ("/dev/video0", "video0"),
        ("Überwachung.mp4", "Überwachung"),
        ("日本.mp4", "日本"),
        ("видео 1.mp4", "видео-1"),
        ("हिन्दी.mp4", "हिन्दी"),
        ("١٢٣.mp4", "١٢٣"),
        ("cafe\u0301.mp4", "café"),
        ("🎉.mp4", "stream"),
        ("𠀀" * 60 + ".mp4", "𠀀" * 48),
        ("公" * 80 + ".mp4", "公" * 64),
        ("rtsp://host/камера", "host-камера"),
        ("x" * 200 + ".mp4", "x" * 64),
    ],
)
def test_an_id_is_made_from_the_source(url: str, expected: str) -> None:
    assert default_stream_id(url) == expected


def test_ids_are_unique_and_in_order() -> None:
    sources = resolve_sources(["a/x.mp4", "b/x.mp4", "c/x.avi", "x" * 70, "y" + "x" * 70, "x" * 71])
    assert [source.id for source in sources[:3]] == ["x", "x-2", "x-3"]
    assert len({source.id for source in sources}) == 6
    assert max(len(source.id) for source in sources) <= 64


def test_ids_in_use_are_left_alone() -> None:
    assert [source.id for source in resolve_sources(["x.mp4"], taken={"x", "x-2"})] == ["x-3"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ["b.MP4", "a.mkv", "._a.mkv", "notes.txt"]:
        (tmp_path / name).touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.mp4").touch()
    return tmp_path


def test_a_folder_gives_its_videos_by_name(folder: Path) -> None:
    assert [Path(source.url).name for source in resolve_sources([str(folder)])] == ["a.mkv", "b.MP4"]


def test_a_folder_of_folders_gives_all_videos_if_asked_to(folder: Path) -> None:
    (folder / ".trash").mkdir()
    (folder / ".trash" / "d.mp4").touch()
    (folder / "deep" / "loop").symlink_to(folder)
    found = resolve_sources([str(folder)], recursive=True)
    assert [Path(source.url).name for source in found] == ["a.mkv", "b.MP4", "c.mp4"]


def test_pictures_come_behind_the_videos_and_leave_them_their_names(folder: Path) -> None:
    for name in ("a.JPG", "b.png", "c.webp"):
        (folder / name).touch()
    assert [(source.id, Path(source.url).suffix) for source in resolve_sources([str(folder)])] == [
        ("a", ".mkv"),
        ("b", ".MP4"),
        ("a-2", ".JPG"),
        ("b-2", ".png"),
        ("c", ".webp"),
    ]


def test_sources_keep_the_ids_they_had(folder: Path) -> None:
    known = {str(folder / "b.MP4"): ["x"], str(folder / "gone.mp4"): ["a"]}
    assert [source.id for source in resolve_sources([str(folder)], known=known)] == ["a-2", "x"]


def test_a_name_that_is_no_text_refuses_its_file_alone(folder: Path) -> None:
    (folder / "deep" / os.fsdecode(b"k\xe9.mp4")).touch()
    refused: list[SourceError] = []
    found = resolve_sources([f"{folder}/deep"], refuse=refused.append)
    assert [source.id for source in found] == ["c"]
    assert [str(error) for error in refused] == [
        f"{folder}/deep/k\\xe9.mp4: the name is not valid UTF-8; give the file another one"
    ]
    with pytest.raises(SourceError, match="not valid UTF-8"):
        resolve_sources([f"{folder}/deep"])


def test_a_glob_gives_what_it_matches(folder: Path) -> None:
    assert [Path(source.url).name for source in resolve_sources([f"{folder}/*.[Mm]*"])] == ["a.mkv", "b.MP4"]
    assert [Path(source.url).name for source in resolve_sources([f"{folder}/**/*.mp4"])] == ["c.mp4"]


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a[1].mp4").touch()
    assert [source.id for source in resolve_sources([f"{tmp_path}/a[1].mp4"])] == ["a-1"]


def test_a_missing_file_is_a_source_that_fails_later(tmp_path: Path) -> None:
    assert [source.live for source in resolve_sources([f"{tmp_path}/missing.mp4"])] == [False]


@pytest.mark.parametrize("argument", ["{folder}/deep/..//*.txt", "{folder}/none*", "{folder}/empty"])
def test_nothing_to_read_is_a_usage_error(folder: Path, argument: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(
        UsageError, match=r"no video file there and no picture; file names may end in .*\.mp4"
    ):
        resolve_sources([argument.format(folder=folder)])


def test_an_unknown_scheme_is_a_usage_error_without_the_password() -> None:
    with pytest.raises(
        UsageError, match=r"ftp://me:\*\*\*@host/a: scheme 'ftp' .* allowed are http, https, rtmp"
    ) as error:
        resolve_sources(["ftp://me:secret@host/a"])
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://me:secret@host/a", "rtsp://me:***@host/a"),
        ("rtsp://me:sec/ret@host/a", "rtsp://me:***@host/a"),
        ("rtsp://me:s#e?c@ret@host/a", "rtsp://me:***@host/a"),
        ("http://host:8080/x@2x.mp4", "http://host:***@2x.mp4"),  # too much rather than too little
        ("rtsp://me:se[cret@host/a", "rtsp://me:***@host/a"),
        ("http://host/a?user=me&password=secret&x=1", "http://host/a?user=me&password=***&x=1"),
        ("http://host/live.m3u8?token=secret", "http://host/live.m3u8?token=***"),
        ("dir/a:b@c.mp4", "dir/a:b@c.mp4"),
    ],
)
def test_passwords_are_never_shown(url: str, shown: str) -> None:
    source = source_for(url)
    assert source.shown == shown
    assert shown in repr(source)
    assert "secret" not in repr(source)
    assert source.url == url


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"id": "a b"}, "stream id 'a b'"),
        ({"id": ""}, "stream id ''"),
        ({"transport": "http"}, "allowed are tcp, udp"),
        ({"start": -1.0}, "start -1.0"),
        ({"start": float("nan")}, "start nan"),
        ({"start": 2.0, "end": 2.0}, "end 2.0"),
        ({"end": float("inf")}, "end inf"),
        ({"stride": 0}, "stride 0"),
        ({"read_timeout": 0.0}, "time-outs"),
    ],
)
def test_bad_values_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Source(**{"id": "a", "url": "a.mp4", "live": False, **fields})  # type: ignore[arg-type]


def test_the_part_to_read_is_handed_on() -> None:
    (source,) = resolve_sources(["a.mp4"], start=1.5, end=3, stride=2, transport="udp")
    assert (source.start, source.end, source.stride, source.transport) == (1.5, 3, 2, "udp")
