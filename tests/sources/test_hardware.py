"""Decoding on a graphics device, or on the processor where that cannot be had."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext

from streamseg.errors import UsageError
from streamseg.sources import SourcePool, source_for
from streamseg.sources import hardware as under_test
from streamseg.sources.decode import VideoReader
from streamseg.sources.hardware import Decode, Decoder, accelerator
from tests.support.media import read_counter, write_clip
from tests.support.reading import Listener

NO_CUDA = accelerator("cuda") is None
Frames = list[tuple[int, int, int]]


def read(path: Path, decode: Decode, **part: float) -> tuple[Frames, str | None]:
    """Number, ticks and counter of every selected frame, and why the processor decoded."""
    source = source_for(str(path), decode=decode, **part)  # type: ignore[arg-type]
    with VideoReader(source) as reader:
        frames = [
            (index, ticks, read_counter(frame.to_ndarray(format="rgb24")))
            for index, frame, ticks in reader.selected()
        ]
        return frames, reader.fallback


@pytest.mark.parametrize("device", ["cuda", "qsv"])
def test_without_the_device_the_processor_decodes_and_one_line_says_so(
    tmp_path: Path, device: Decode, caplog: pytest.LogCaptureFixture
) -> None:
    if read(write_clip(tmp_path / "probe.mp4", frames=1), device)[1] is None:
        pytest.skip(f"this machine decodes with {device}")
    listener = Listener()
    source = source_for(str(write_clip(tmp_path / "door.mp4", frames=40)), decode=device)
    with caplog.at_level(logging.WARNING), SourcePool([source], emit=listener) as pool:
        pool.start()
        listener.wait_for_end("door")
    assert listener.counters("door") == list(range(40))
    assert listener.ended["door"].error is None
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert line.startswith(f"door: decode: {device} cannot be used (no such device can be opened")
    assert line.endswith("), the CPU decodes")


@pytest.mark.parametrize("decode", ["auto", "cpu"])
def test_the_processor_decodes_without_a_word(tmp_path: Path, decode: Decode) -> None:
    frames, fallback = read(write_clip(tmp_path / "a.mp4", frames=12), decode)
    assert [counter for _, _, counter in frames] == list(range(12))
    assert fallback is None


@pytest.mark.cuda
@pytest.mark.skipif(NO_CUDA, reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("part", [{}, {"start": 1.0, "end": 2.0}], ids=["all", "part"])
def test_a_gpu_decodes_what_the_processor_does(tmp_path: Path, part: dict[str, float]) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=60, bframes=3)
    assert read(clip, "cuda", **part) == read(clip, "cpu", **part)


@pytest.fixture
def another_decoder(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Intel's decoders stand in FFmpeg beside its own; here the latter stand for them."""
    asked: list[str] = []

    def stand_in(name: str) -> VideoCodecContext:
        asked.append(name)
        context = av.CodecContext.create(name.removesuffix("_qsv").replace("mpeg2", "mpeg2video"), "r")
        assert isinstance(context, VideoCodecContext)
        return context

    monkeypatch.setattr(under_test, "qsv_context", stand_in)
    under_test._missing.cache_clear()
    return asked


@pytest.fixture(autouse=True)
def _ask_again() -> None:
    under_test._missing.cache_clear()


@pytest.mark.parametrize("part", [{}, {"start": 1.0, "end": 2.0}, {"start": 1.9}], ids=str)
@pytest.mark.parametrize("ending", ["mp4", "ts", "mkv"])
def test_a_decoder_beside_ffmpegs_own_gives_the_same_frames(
    tmp_path: Path, ending: str, part: dict[str, float], another_decoder: list[str]
) -> None:
    clip = write_clip(tmp_path / f"a.{ending}", frames=60, bframes=3)
    expected, _ = read(clip, "cpu", **part)
    assert expected
    assert read(clip, "qsv", **part) == (expected, None)
    assert set(another_decoder) == {"h264_qsv"}


def test_a_codec_may_have_another_name_there(tmp_path: Path, another_decoder: list[str]) -> None:
    clip = write_clip(tmp_path / "a.mpg", frames=30, encoder="mpeg2video")
    assert read(clip, "qsv") == read(clip, "cpu")
    assert set(another_decoder) == {"mpeg2_qsv"}


def test_pictures_to_be_turned_stay_with_the_processor(tmp_path: Path, another_decoder: list[str]) -> None:
    """What the container says of them does not reach a decoder that it did not open."""
    clip = write_clip(tmp_path / "a.mp4", frames=30, turn=90)
    frames, fallback = read(clip, "qsv")
    assert [index for index, _, _ in frames] == list(range(30))
    assert fallback == "decode: qsv cannot be used (it does not turn pictures), the CPU decodes"
    with VideoReader(source_for(str(clip), decode="qsv")) as reader:
        assert next(reader.selected())[1].rotation == 90


def test_a_decoder_that_refuses_the_video_costs_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens, and breaks down with the first packets: here one for another codec."""
    monkeypatch.setattr(under_test, "qsv_context", lambda _: av.CodecContext.create("hevc", "r"))
    frames, fallback = read(write_clip(tmp_path / "a.mp4", frames=30), "qsv")
    assert [counter for _, _, counter in frames] == list(range(30))
    assert fallback is not None
    assert "qsv cannot be used (it refuses this video" in fallback


@pytest.mark.parametrize("device", ["cuda", "qsv"])
def test_a_codec_that_no_device_knows_stays_with_the_processor(
    tmp_path: Path, device: Decode, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "a.mkv", frames=10, encoder="ffv1")
    frames, fallback = read(clip, device)
    assert len(frames) == 10
    assert fallback is not None
    assert fallback.startswith(f"decode: {device} cannot be used (")


def test_another_device_is_refused() -> None:
    with pytest.raises(UsageError, match="decode 'vaapi': allowed are auto, cpu, cuda, qsv"):
        source_for("a.mp4", decode="vaapi")  # type: ignore[arg-type]


def test_pictures_differ_by_device_in_nothing(tmp_path: Path, another_decoder: list[str]) -> None:
    clip = write_clip(tmp_path / "a.mp4", frames=5)
    pictures = []
    for decode in ("cpu", "qsv"):
        with VideoReader(source_for(str(clip), decode=decode)) as reader:  # type: ignore[arg-type]
            pictures.append([frame.to_ndarray(format="rgb24") for _, frame, _ in reader.selected()])
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize("packets", [1, 20])
def test_after_a_seek_nothing_of_before_comes_out(
    tmp_path: Path, packets: int, another_decoder: list[str]
) -> None:
    with av.open(str(write_clip(tmp_path / "a.mp4", frames=30, bframes=3))) as container:
        stream = container.streams.video[0]
        decoder = Decoder(stream, "qsv")
        for packet in islice(container.demux(stream), packets):
            decoder.decode(packet)
        container.seek(0)
        decoder.flush()
        frames = [frame for packet in container.demux(stream) for frame in decoder.decode(packet)]
    assert [read_counter(frame.to_ndarray(format="rgb24")) for frame in frames] == list(range(30))
    assert decoder.fallback is None
