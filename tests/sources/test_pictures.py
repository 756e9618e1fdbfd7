"""Pictures as they are meant: which way up, on which ground, in which colours, whole."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from streamseg.sources import Source
from streamseg.sources.decode import VideoReader
from streamseg.sources.hdr import HLG, PQ, to_sdr
from streamseg.sources.integrity import ReadError
from streamseg.sources.pictures import PictureWriter
from tests.support.media import counter_picture, write_clip
from tests.support.program import ROOT

NUMBER = 0b1000_0100_0001_0011
"""Its picture looks different each way up."""


def pictures(path: Path, notes: list[str] | None = None, **options: Any) -> list[NDArray[np.uint8]]:
    found = []
    source = Source(id="clip", url=str(path), live=False, **options)
    with VideoReader(source, note=(notes if notes is not None else []).append) as reader:
        for _, frame, _ in reader.selected():
            writer = PictureWriter(frame)
            picture = np.empty((writer.height, writer.width, 3), np.uint8)
            writer.write(frame, picture)
            found.append(picture)
    return found


SHOWN = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}
"""What the EXIF orientations mean."""


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", SHOWN)
def test_photos_are_upright_and_not_mirrored(tmp_path: Path, orientation: int, ending: str) -> None:
    stored = counter_picture(NUMBER, 96, 64)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(tmp_path / f"a.{ending}", exif=exif, quality=95)
    (found,) = pictures(tmp_path / f"a.{ending}")
    expected = SHOWN[orientation](stored)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 10


MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


@pytest.mark.parametrize("orientation", MATRICES)
def test_videos_are_shown_as_their_matrix_says(tmp_path: Path, orientation: int) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=2, width=96, height=64, first_number=NUMBER, bframes=0)
    a, b, c, d = (value << 16 for value in MATRICES[orientation])
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    data = path.read_bytes()
    track = data.index(b"tkhd")  # the movie header has a matrix too, which does not count
    at = data.index(plain, track)
    path.write_bytes(data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :])
    found = pictures(path)[0]
    expected = SHOWN[orientation](counter_picture(NUMBER, 96, 64))
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 10


def see_through() -> NDArray[np.uint8]:
    """(48, 64, 4): left red and opaque, right green that must not be seen."""
    picture = np.zeros((48, 64, 4), np.uint8)
    picture[:, :32] = (255, 0, 0, 255)
    picture[:, 32:] = (0, 255, 0, 0)
    return picture


def check_on_black(found: NDArray[np.uint8]) -> None:
    assert np.abs(found[:, 4:28].reshape(-1, 3).mean(axis=0) - (255, 0, 0)).max() < 10
    assert found[:, 36:60].max() < 10


@pytest.mark.parametrize("name", ["a.png", "a.webp", "palette.png", "a.gif", "two.png", "two.gif"])
def test_what_is_transparent_is_black(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(see_through())
    if name == "palette.png":
        image = image.quantize(method=Image.Quantize.FASTOCTREE)
    more = {"save_all": True, "append_images": [image.copy()]} if name.startswith("two") else {}
    image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}), **more)
    check_on_black(pictures(tmp_path / name)[0])


def test_half_transparent_is_half_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((48, 64, 4), (200, 100, 50, 128), np.uint8)).save(tmp_path / "a.png")
    assert np.abs(pictures(tmp_path / "a.png")[0].astype(int) - (100, 50, 25)).max() <= 1


def test_transparent_webm(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.webm"), "w") as out:
        video = out.add_stream("libvpx-vp9", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuva420p"
        video.metadata["alpha_mode"] = "1"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(see_through(), format="rgba").reformat(format="yuva420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
    found = pictures(tmp_path / "a.webm")
    assert len(found) == 3
    check_on_black(found[-1])


def pq(nits: NDArray[np.float64]) -> NDArray[np.float64]:
    """cd/m2 to code, SMPTE ST 2084."""
    power = (nits / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def write_hdr(path: Path, codes: NDArray[np.float64], transfer: int) -> None:
    """A clip of gray bars, coded in 10 bits of BT.2020."""
    luma = np.round(64 + 876 * codes).astype(np.uint16).repeat(16)
    width = len(luma)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx265", rate=25, options={"x265-params": "log-level=none:lossless=1"})
        video.width, video.height, video.pix_fmt = width, 64, "yuv420p10le"
        context = video.codec_context
        context.color_trc, context.colorspace, context.color_primaries, context.color_range = (
            transfer,
            9,
            9,
            1,
        )
        frame = av.VideoFrame(width, 64, "yuv420p10le")
        for plane, row in zip(frame.planes, [luma, *2 * [np.full(width // 2, 512, np.uint16)]], strict=True):
            lines = np.zeros((plane.height, plane.line_size // 2), np.uint16)
            lines[:, : len(row)] = row
            plane.update(lines.tobytes())
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        frame.color_trc, frame.colorspace, frame.color_primaries, frame.color_range = transfer, 9, 9, 1
        out.mux(video.encode(frame))
        out.mux(video.encode(None))


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_becomes_an_ordinary_picture(tmp_path: Path, transfer: int) -> None:
    sdr = np.array([0.1, 0.3, 0.5, 0.7, 0.85])
    codes = pq(203 * sdr**2.4) if transfer == PQ else np.array([0.2, 0.4, 0.6, 0.75, 1.0])
    write_hdr(tmp_path / "a.mkv", codes, transfer)
    found = pictures(tmp_path / "a.mkv")[0][32, 8::16].astype(int)
    expected = sdr if transfer == PQ else to_sdr(codes[:, None].repeat(3, axis=1), HLG)[:, 0]
    assert np.abs(found - np.round(255 * expected)[:, None]).max() <= 3
    assert (np.diff(found[:, 0]) > 10).all()


def test_hdr_keeps_its_highlights_apart() -> None:
    light = pq(np.array([203.0, 400, 700, 1000, 4000]))[:, None].repeat(3, axis=1)
    sdr = 255 * to_sdr(light, PQ)[:, 0]
    assert sdr[0] > 215
    assert (np.diff(sdr[:4]) > 1).all()
    assert sdr[3] == pytest.approx(255, abs=0.5)


def write_interlaced(path: Path, frames: int = 12) -> None:
    """A white bar that moves 8 columns from field to field, top field first."""
    with av.open(str(path), "w") as out:
        options = {"x264-params": "interlaced=1:tff=1", "crf": "1", "preset": "ultrafast"}
        video = out.add_stream("libx264", rate=25, options=options)
        video.width, video.height, video.pix_fmt = 256, 64, "yuv420p"
        for number in range(frames):
            picture = np.zeros((64, 256, 3), np.uint8)
            for field in (0, 1):
                left = 8 * (2 * number + field)
                picture[field::2, left : left + 32] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))


def combing(picture: NDArray[np.uint8]) -> float:
    """How much neighbouring rows differ."""
    return float(np.abs(np.diff(picture[8:-8].astype(int), axis=0)).mean())


@pytest.mark.parametrize(("deinterlace", "whole"), [("auto", True), ("off", False)])
def test_interlaced_pictures_are_made_whole(tmp_path: Path, deinterlace: str, whole: bool) -> None:
    write_interlaced(tmp_path / "a.mp4")
    found = pictures(tmp_path / "a.mp4", deinterlace=deinterlace)
    assert len(found) == 12
    assert (max(map(combing, found)) < 2) == whole
    bars = [np.flatnonzero(picture[32, :, 0] > 127).mean() for picture in found]
    np.testing.assert_allclose(np.diff(bars), 16, atol=2)


def test_a_format_without_a_decoder_is_one_clear_line(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=3)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz9"))
    with pytest.raises(ReadError, match="format that there is no decoder for"):
        pictures(path)


def test_a_track_without_a_decoder_is_left_out(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", frames=5, sound=1.0)
    path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_ZZZ"))
    notes: list[str] = []
    assert len(pictures(path, notes)) == 5
    assert notes == ["left out 1 of its tracks, for which there is no decoder"]


TILED = ROOT.parent / "shared" / "cases" / "files" / "iphone_grid.heic"


@pytest.mark.skipif(not TILED.is_file(), reason="no photo in tiles there, and nothing here can make one")
def test_a_photo_in_tiles_is_one_clear_line() -> None:
    with pytest.raises(ReadError, match="stored in 4 tiles cannot be read; convert it to JPEG"):
        pictures(TILED)
