"""Stored results, painted on their video as the run painted them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from streamseg.config import OverlayOptions, parse_config
from streamseg.errors import SourceError, StreamsegError, UsageError
from streamseg.outputs.mp4 import Mp4File
from streamseg.results.reading import read_results
from streamseg.runtime.build import build_streams
from streamseg.runtime.render import Render
from streamseg.types import FrameResult
from tests.support.clips import read_audio, read_video, write_tone_clip
from tests.support.media import cut, write_clip, write_two_sizes
from tests.support.program import STREET
from tests.support.runs import WATCHED, run_here, run_watched
from tests.support.stored import write_results

EVERYTHING = {"boxes": True, "trails": True, "blur": ["car"]}


@dataclass
class Painted:
    """What was handed to the encoders."""

    times: list[int] = field(default_factory=list)
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)

    def check_same(self, other: Painted) -> None:
        """The run of a part begins at the second that it was told; a render at its first picture."""
        assert np.diff(self.times).tolist() == np.diff(other.times).tolist()
        assert len(self.pictures) == len(other.pictures) > 0
        for one, two in zip(self.pictures, other.pictures, strict=True):
            np.testing.assert_array_equal(one, two)


@contextmanager
def watching() -> Iterator[Painted]:
    """Keeps every picture before it is encoded."""
    painted, write = Painted(), Mp4File.write

    def keep(self: Mp4File, pixels: NDArray[np.uint8], pts: int) -> None:
        painted.times.append(pts)
        painted.pictures.append(pixels.copy())
        write(self, pixels, pts)

    with patch.object(Mp4File, "write", keep):
        yield painted


def content(clip: Path, folder: Path, **stream: Any) -> dict[str, Any]:
    """The configuration of a run that stores results and an overlay."""
    return {
        "streams": [{"id": "cam", "url": str(clip), **stream}],
        "overlay": EVERYTHING,
        "outputs": [
            {"type": "ndjson", "path": str(folder / "run.ndjson")},
            {"type": "video", "path": str(folder / "run.mp4")},
        ],
    }


def run_and_store(clip: Path, folder: Path, **stream: Any) -> Painted:
    made = content(clip, folder, **stream)
    (streams,) = made["streams"]
    rules = {key: value for key, value in streams.items() if key not in {"id", "url"}}
    with watching() as painted:
        run_watched(clip, outputs=made["outputs"], rules=rules, overlay=made["overlay"])
    return painted


def render(clip: Path, results: Path, out: Path, **options: Any) -> tuple[Render, Painted]:
    options.setdefault("overlay", OverlayOptions.model_validate(EVERYTHING))
    with watching() as painted:
        work = Render(str(clip), results, str(out), **options)
        work.run()
    return work, painted


@pytest.mark.parametrize(
    ("options", "stream"),
    [
        (
            {
                "width": 321,
                "height": 241,
                "frames": 60,
                "time_base": Fraction(1, 90000),
                "ticks": [n * 7507 + n % 3 for n in range(60)],
            },
            {},
        ),
        ({"frames": 100, "sound": 4.0}, {"start": 2.5, "end": 3.2, "stride": 4}),
        ({"turn": 90, "sound": 1.0}, {}),
    ],
    ids=["odd-size-and-uneven-times", "every-fourth-of-a-part", "turned"],
)
def test_a_clip_rendered_again_is_the_overlay_of_its_run(
    tmp_path: Path, options: dict[str, Any], stream: dict[str, Any]
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", **options)
    of_run = run_and_store(clip, tmp_path, **stream)
    work, again = render(clip, tmp_path / "run.ndjson", tmp_path / "again.mp4")
    again.check_same(of_run)
    assert work.painted == len(again.pictures)
    begins = [read_video(tmp_path / f"{name}.mp4")[0][0] for name in ("again", "run")]
    assert 0 <= begins[1] - begins[0] < 1 / 25


def test_so_is_a_real_clip_with_zones_and_lines(tmp_path: Path) -> None:
    of_run = run_and_store(STREET, tmp_path, **WATCHED)
    config = parse_config(content(STREET, tmp_path, **WATCHED), where="test")
    _, again = render(STREET, tmp_path / "run.ndjson", tmp_path / "again.mp4", streams=build_streams(config))
    again.check_same(of_run)
    assert len(again.pictures) == 120


def test_so_is_a_transport_stream_that_begins_late_and_changes_its_size(tmp_path: Path) -> None:
    for clip in (write_clip(tmp_path / "late.ts", sound=1.0), write_two_sizes(tmp_path)):
        of_run = run_and_store(clip, tmp_path)
        _, again = render(clip, tmp_path / "run.ndjson", tmp_path / "again.mp4")
        again.check_same(of_run)
    assert (tmp_path / "again.part2.mp4").exists()


def test_zones_whose_places_are_not_known_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=5)
    run_and_store(clip, tmp_path, **WATCHED)
    render(clip, tmp_path / "run.ndjson", tmp_path / "again.mp4")
    assert "zones and lines (left, middle) are not painted: no -c FILE has them for stream cam" in caplog.text


def test_other_parts_can_be_painted_than_in_the_run(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=5)
    of_run = run_and_store(clip, tmp_path)
    nothing = OverlayOptions(masks=False, outlines=False, labels=False, ids=False)
    _, plain = render(clip, tmp_path / "run.ndjson", tmp_path / "plain.mp4", overlay=nothing)
    assert (plain.pictures[3] != of_run.pictures[3]).any()
    assert set(np.unique(plain.pictures[3] // 32)) == {0, 7}, "the clip's black and white"


def test_the_sound_is_copied(tmp_path: Path) -> None:
    clip = tmp_path / "tone.mp4"
    write_tone_clip(clip, seconds=2.0)
    run_here(clip, results=tmp_path / "run.ndjson", video=tmp_path / "run.mp4")
    render(clip, tmp_path / "run.ndjson", tmp_path / "again.mp4")
    assert read_audio(tmp_path / "again.mp4") == read_audio(tmp_path / "run.mp4") != []


def test_partial_results_end_the_video_and_its_sound(tmp_path: Path) -> None:
    clip = tmp_path / "tone.mp4"
    write_tone_clip(clip, seconds=3.0)
    run_here(clip, results=tmp_path / "run.ndjson")
    whole = list(read_results(tmp_path / "run.ndjson"))
    partial = write_results(tmp_path / "run.ndjson.partial", whole[:25])
    partial.write_bytes(partial.read_bytes() + b'{"v":1,"str')
    work, painted = render(clip, partial, tmp_path / "again.mp4")
    assert len(painted.pictures) == 25
    assert work.remarks() == [f"the video goes on after the last result in {partial}"]
    assert read_audio(tmp_path / "again.mp4")[-1][0] < 1.1


def test_frames_that_the_run_left_out_are_left_out_and_counted(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=21)
    run_and_store(clip, tmp_path, stride=5)
    work, painted = render(clip, tmp_path / "run.ndjson", tmp_path / "again.mp4")
    assert len(painted.pictures) == 5
    assert work.remarks() == ["16 frames between results have none and are left out"]


def test_a_stride_that_leaves_the_last_frames_out_is_no_early_end(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=24, sound=1.0)
    run_and_store(clip, tmp_path, stride=5)
    work, _ = render(clip, tmp_path / "run.ndjson", tmp_path / "again.mp4")
    assert not any("goes on" in line for line in work.remarks())


def shared_file(folder: Path, *clips: Path) -> Path:
    """Results of several clips in one file, by turns."""
    stored = []
    for clip in clips:
        run_here(clip, results=folder / "one.ndjson")
        stored.append(list(read_results(folder / "one.ndjson")))
    return write_results(folder / "all.ndjson", [one for turn in zip(*stored, strict=True) for one in turn])


def test_of_a_file_with_several_streams_the_videos_own_is_painted(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"c{k}.mp4", frames=6, first_number=40 * k) for k in range(2)]
    results = shared_file(tmp_path, *clips)
    with watching() as of_run:
        run_here(clips[1], video=tmp_path / "run.mp4")
    _, again = render(clips[1], results, tmp_path / "again.mp4", overlay=None)
    again.check_same(of_run)
    moved = clips[1].rename(tmp_path / "moved.mp4")
    with pytest.raises(
        UsageError, match=r"of the streams c0, c1 none is of .*moved\.mp4; choose with --stream"
    ):
        Render(str(moved), results, str(tmp_path / "again.mp4"))
    _, chosen = render(moved, results, tmp_path / "again.mp4", overlay=None, stream="c1")
    chosen.check_same(of_run)
    with pytest.raises(UsageError, match=r"holds no stream 'c3'; there are c0, c1"):
        Render(str(moved), results, str(tmp_path / "again.mp4"), stream="c3")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """A clip with its results beside it."""
    clip = write_clip(tmp_path / "clip.mp4", frames=10)
    run_here(clip, results=tmp_path / "run.ndjson")
    return clip


def failure(video: Path, results: Path, **options: Any) -> str:
    with pytest.raises(StreamsegError) as caught:
        render(video, results, results.parent / "again.mp4", **options)
    assert not (results.parent / "again.mp4").exists()
    return str(caught.value)


def test_results_of_another_video_are_refused_in_one_line(tmp_path: Path, clip: Path) -> None:
    results = tmp_path / "run.ndjson"
    small = write_clip(tmp_path / "small.mp4", frames=10, width=160, height=120)
    assert "is of pictures of 320x240" in failure(small, results)
    short = write_clip(tmp_path / "short.mp4", frames=7)
    text = failure(short, results)
    assert "has 3 results more than" in text
    assert "the first of them at 0.28 s" in text
    slow = write_clip(tmp_path / "slow.mp4", frames=10, fps=10)
    text = failure(slow, results)
    assert "has a result for 0.04 s (frame 1), where" in text
    assert "the next one is at 0.1 s" in text


def test_what_was_painted_before_a_misfit_stays_in_the_partial_file(tmp_path: Path, clip: Path) -> None:
    short = write_clip(tmp_path / "short.mp4", frames=7)
    failure(short, tmp_path / "run.ndjson")
    assert len(read_video(tmp_path / "again.mp4.partial")[0]) == 7


def test_a_video_that_cannot_be_read_as_far_as_its_results_fails(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", frames=100)
    run_here(whole, results=tmp_path / "run.ndjson")
    with pytest.raises(StreamsegError, match=r"broken\.mkv"):
        render(cut(whole, tmp_path / "broken.mkv", keep=0.5), tmp_path / "run.ndjson", tmp_path / "again.mp4")
    with pytest.raises(SourceError, match="No such file"):
        render(tmp_path / "none.mp4", tmp_path / "run.ndjson", tmp_path / "again.mp4")


def test_a_broken_video_whose_results_are_all_painted_is_told_only(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", frames=100)
    broken = cut(whole, tmp_path / "broken.mkv", keep=0.5)
    run_watched(broken, outputs=[{"type": "ndjson", "path": str(tmp_path / "run.ndjson")}], rules={})
    work, painted = render(broken, tmp_path / "run.ndjson.partial", tmp_path / "again.mp4")
    assert 10 < len(painted.pictures) < 100
    assert any("broken" in line for line in work.remarks())
    assert (tmp_path / "again.mp4").exists()


def changed(results: Path, **fields: Any) -> Path:
    """The same results, the last one with other values."""
    *some, last = read_results(results)
    return write_results(results.parent / "changed.ndjson", [*some, msgspec.structs.replace(last, **fields)])


def test_results_of_cameras_and_empty_files_are_refused(tmp_path: Path, clip: Path) -> None:
    results = tmp_path / "run.ndjson"
    assert "connected several times" in failure(clip, changed(results, epoch=1))
    assert "holds no results" in failure(clip, write_results(tmp_path / "empty.ndjson", []))
    with pytest.raises(UsageError, match="is live; stored results need the recording"):
        Render("rtsp://127.0.0.1/cam", results, str(tmp_path / "again.mp4"))


def test_objects_that_cannot_be_right_are_named(tmp_path: Path, clip: Path) -> None:
    *_, last = read_results(tmp_path / "run.ndjson")
    first, *rest = last.instances

    def text(**fields: Any) -> str:
        wrong = msgspec.structs.replace(first, **fields)
        return failure(clip, changed(tmp_path / "run.ndjson", instances=(wrong, *rest)))

    assert "frame 9 of stream clip: object" in text(box=(0.0, 0.0, 321.0, 10.0))
    assert "which is empty or not in the picture of 320x240" in text(box=(5.0, 5.0, 5.0, 10.0))
    other = msgspec.structs.replace(first.rle, size=(120, 160))
    assert "has a mask of 160x120 in a picture of 320x240" in text(rle=other)
    assert "cannot be read" in text(rle=msgspec.structs.replace(first.rle, counts="0"))
    empty = msgspec.structs.replace(first.rle, counts="P\\d42")
    assert "mask" in text(rle=empty)


def test_a_name_that_is_spelled_wrongly_does_not_leave_people_visible(
    tmp_path: Path, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = [msgspec.structs.replace(one, model="demo") for one in read_results(tmp_path / "run.ndjson")]
    bundled = write_results(tmp_path / "demo.ndjson", results)

    def blurring(name: str) -> dict[str, Any]:
        return {"overlay": OverlayOptions(blur=(name,))}

    assert "overlay.blur: 'persn' (did you mean person?)" in failure(clip, bundled, **blurring("persn"))
    render(clip, bundled, tmp_path / "a.mp4", **blurring("bicycle"))  # the model knows it, the clip has none
    render(clip, tmp_path / "run.ndjson", tmp_path / "b.mp4", **blurring("persn"))
    assert "'persn' (did you mean person?) is no class in" in caplog.text


def test_a_render_that_is_stopped_leaves_a_video_that_plays(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", frames=120)
    run_here(clip, results=tmp_path / "run.ndjson")
    works: list[Render] = []

    def stop_soon(event: object) -> None:
        if isinstance(event, FrameResult) and event.frame == 20:
            works[0].stop()

    works.append(Render(str(clip), tmp_path / "run.ndjson", str(tmp_path / "again.mp4"), observe=stop_soon))
    works[0].run()
    times, _ = read_video(tmp_path / "again.mp4")
    assert 20 < len(times) == works[0].painted < 120


def test_the_video_is_not_replaced_by_its_overlay(tmp_path: Path, clip: Path) -> None:
    with pytest.raises(UsageError, match="is the video itself"):
        Render(str(clip), tmp_path / "run.ndjson", str(clip))
