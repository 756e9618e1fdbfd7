"""Sound with whatever time stamps, beside pictures that must not suffer from it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamseg.clock import SourceClock, Stamps
from streamseg.outputs.audio import AudioReader
from streamseg.outputs.encoder import EncoderChoice
from streamseg.outputs.mp4 import Mp4File
from streamseg.outputs.tracks import Placer
from tests.support.clips import bars, info, read_audio, read_video, write_tone_clip

RATE = 48_000


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tones")
    paths = {codec: folder / f"{codec}.mkv" for codec in ("aac", "pcm_s16le")}
    for codec, path in paths.items():
        write_tone_clip(path, seconds=1, codec=codec)
    return paths


class Retimed(AudioReader):
    """The sound of a file with other time stamps, seconds or None for each packet."""

    def __init__(self, path: Path, stamps: list[float | None]) -> None:
        super().__init__(info(url=str(path), has_audio=True), begin=Fraction())
        self._stamps = stamps

    def _moved_packets(self, source: Any) -> Iterator[Any]:
        clock = SourceClock(leader=0)
        audio = source.streams.audio[0]
        for packet, seconds in zip(source.demux(audio), self._stamps, strict=False):
            ticks = None if seconds is None else round(seconds / packet.time_base)
            stamps = clock.move(1, Stamps(ticks, ticks, packet.duration or 0), packet.time_base)
            if packet.size and stamps.pts is not None:
                yield packet, stamps.pts * packet.time_base


moments = st.none() | st.floats(-5, 5) | st.floats(-1e9, 1e9)
steady = st.integers(0, 40).map(lambda k: k * 1024 / RATE)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stamps=st.lists(moments | steady, max_size=45), codec=st.sampled_from(["aac", "pcm_s16le"]))
def test_sound_never_ends_a_video(
    tmp_path_factory: pytest.TempPathFactory,
    tones: dict[str, Path],
    stamps: list[float | None],
    codec: str,
) -> None:
    path = tmp_path_factory.mktemp("out") / "a.mp4"
    file = Mp4File(
        path,
        size=(64, 48),
        time_base=Fraction(1, 12800),
        fps=25.0,
        audio=Retimed(tones[codec], stamps),
        encoders=EncoderChoice("x264"),
    )
    for number in range(25):
        file.write(bars(64, 48), number * 512)
    file.finish(whole_audio=True)
    times, _ = read_video(path)
    np.testing.assert_allclose(times, np.arange(25) / 25)
    sound = [at for at, _ in read_audio(path)]
    assert sound == sorted(set(sound))


@given(
    wanted=st.lists(st.tuples(st.integers(-(2**62), 2**62) | st.integers(0, 5000), st.integers(0, 2048))),
)
def test_no_two_packets_are_at_one_place(wanted: list[tuple[int, int]]) -> None:
    placer = Placer()
    places = [placer.place(ticks, duration) for ticks, duration in wanted]
    given_ = [place for place in places if place is not None]
    assert given_ == sorted(set(given_))
    for (ticks, duration), place in zip(wanted, places, strict=True):
        assert place is None or 0 <= place - ticks <= max(duration, 1)


def test_a_time_that_comes_twice_costs_nothing_but_a_warning(
    tmp_path: Path, tones: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    stamps: list[float | None] = [k * 1024 / RATE for k in range(40)]
    stamps[20] = stamps[19]
    file = Mp4File(
        tmp_path / "a.mp4",
        size=(64, 48),
        time_base=Fraction(1, 12800),
        fps=25.0,
        audio=Retimed(tones["aac"], stamps),
        encoders=EncoderChoice("x264"),
    )
    for number in range(25):
        file.write(bars(64, 48), number * 512)
    file.finish(whole_audio=True)
    assert len(read_audio(tmp_path / "a.mp4")) == 40
    # FFmpeg tells of itself, too, if a test before has asked for it.
    (warning,) = (record.message for record in caplog.records if record.name.startswith("streamseg"))
    assert "time stamps of its sound do not increase" in warning


@pytest.mark.parametrize("fps", [25.0, 90_000.0, 0.001, None])
def test_a_key_frame_comes_every_2_seconds(tmp_path: Path, fps: float | None) -> None:
    file = Mp4File(
        tmp_path / "a.mp4",
        size=(64, 48),
        time_base=Fraction(1, 90_000),
        fps=fps,
        audio=None,
        encoders=EncoderChoice("x264"),
    )
    for number in range(150):
        file.write(bars(64, 48), number * 3600)
    file.finish(whole_audio=True)
    with av.open(str(tmp_path / "a.mp4")) as container:
        keys = [float(p.pts * p.time_base) for p in container.demux(video=0) if p.size and p.is_keyframe]
    assert keys[0] == 0
    assert np.diff([*keys, 6.0]).max() <= 2.001
    assert len(keys) <= 6
