"""Clips for tests, encoded on the spot, with a frame counter in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

COUNTER_BITS = 16
_CELLS = 4  # the counter is a grid of 4 x 4 cells, black or white, over the whole picture
SOUND_RATE = 16000


def counter_picture(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) uint8 RGB that shows ``number`` (below 65536) as black and white cells."""
    bits = [(number >> bit) & 1 for bit in range(COUNTER_BITS)]
    rows = np.arange(height) * _CELLS // height
    columns = np.arange(width) * _CELLS // width
    cells = np.array(bits, np.uint8).reshape(_CELLS, _CELLS) * 255
    return np.repeat(cells[rows][:, columns, None], 3, axis=2)


def read_counter(pixels: NDArray[np.uint8]) -> int:
    """The number that a (height, width, 3) picture of :func:`counter_picture` shows."""
    height, width = pixels.shape[:2]
    number = 0
    for bit in range(COUNTER_BITS):
        row, column = divmod(bit, _CELLS)
        y, x = (2 * row + 1) * height // (2 * _CELLS), (2 * column + 1) * width // (2 * _CELLS)
        number |= int(pixels[y - 1 : y + 2, x - 1 : x + 2].mean() > 127) << bit
    return number


def write_clip(
    path: Path,
    *,
    frames: int = 30,
    width: int = 320,
    height: int = 240,
    fps: int = 25,
    ticks: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    sound: float = 0.0,
    bframes: int = 2,
    gop: int = 12,
    turn: int = 0,
    muxer: dict[str, str] | None = None,
    pictures: Sequence[NDArray[np.uint8]] | None = None,
    first_number: int = 0,
    title: str = "",
    encoder: str = "libx264",
) -> Path:
    """Write a clip, H.264 by default (odd sizes as 4:4:4), and return its path.

    ``ticks`` in units of ``time_base`` (default 1 / ``fps``) make a variable frame rate; ``sound``
    adds a track of that many seconds; ``turn`` is stored as display rotation, degrees counter-clockwise;
    ``pictures``, (height, width, 3) RGB, replace the frame counter, which begins at ``first_number``.
    """
    time_base = time_base or Fraction(1, fps)
    if pictures is not None:
        height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options=muxer or {}) as container:
        container.metadata.update({"title": title} if title else {})
        options = {"preset": "ultrafast", "crf": "18", "bf": str(bframes), "g": str(gop), "threads": "1"}
        video = container.add_stream(encoder, rate=fps, options=options)
        odd = width % 2 or height % 2
        video.width, video.height, video.pix_fmt = width, height, "yuv444p" if odd else "yuv420p"
        video.codec_context.time_base = time_base
        if turn:
            video.set_display_rotation(turn)
        audio = container.add_stream("aac", rate=SOUND_RATE) if sound else None
        count = len(pictures) if pictures is not None else frames
        for number in range(count):
            pixels = (
                counter_picture(first_number + number, width, height)
                if pictures is None
                else pictures[number]
            )
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (ticks[number] if ticks else number), time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            _add_silence(container, audio, sound)
    return path


def write_two_sizes(folder: Path) -> Path:
    """Ten pictures of 160x120, then ten of 320x240, numbered through."""
    small = write_clip(folder / "small.h264", frames=10, width=160, height=120, bframes=0)
    big = write_clip(folder / "big.h264", frames=10, width=320, height=240, bframes=0, first_number=10)
    both = folder / "both.h264"
    both.write_bytes(small.read_bytes() + big.read_bytes())
    return both


def _add_silence(
    container: av.container.OutputContainer, audio: av.audio.stream.AudioStream, seconds: float
) -> None:
    for block in range(int(seconds * SOUND_RATE / 1024)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SOUND_RATE, block * 1024
        container.mux(audio.encode(frame))
    container.mux(audio.encode(None))


def write_sound(path: Path, *, seconds: float = 1.0) -> Path:
    """Write a file with a sound track and no video."""
    with av.open(str(path), "w") as container:
        _add_silence(container, container.add_stream("aac", rate=SOUND_RATE), seconds)
    return path


def cut(path: Path, target: Path, *, keep: float) -> Path:
    """Copy the first ``keep`` (a fraction) of a file's bytes."""
    data = path.read_bytes()
    target.write_bytes(data[: int(len(data) * keep)])
    return target
