"""Clips that flash and beep at the same moments, and a look at whether a video still does."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FPS = 20
RATE = 48_000
BEEP = 0.05
"""Seconds: one picture."""


def write_flashes(
    path: Path,
    *,
    frames: int = 20,
    start: float = 0.0,
    every: int = 10,
    size: tuple[int, int] = (64, 48),
    codec: str | None = "aac",
    container: str | None = None,
) -> Path:
    """Black pictures, a white one at every ``every``-th from the sixth on, each with a beep of its length.

    ``start``: seconds on the clip's clock where it begins; ``codec``: of the sound, None for none.
    """
    with av.open(str(path), "w", format=container) as out:
        video = out.add_stream(
            "libx264", rate=FPS, options={"preset": "ultrafast", "bf": "2", "threads": "1"}
        )
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = out.add_stream(codec, rate=RATE, layout="mono") if codec else None
        sound = np.zeros(frames * RATE // FPS, np.float32)
        tone = np.sin(np.arange(round(BEEP * RATE)) / 8).astype(np.float32)
        for number in range(frames):
            flash = number % every == 5
            picture = np.full((size[1], size[0], 3), 255 * flash, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(start * FPS) + number, Fraction(1, FPS)
            for packet in video.encode(frame):
                out.mux(packet)
            if flash:
                sound[number * RATE // FPS :][: len(tone)] = tone
        _add_sound(out, audio, sound, round(start * RATE))
        out.mux(video.encode(None))
    return path


def _add_sound(
    out: av.container.OutputContainer,
    audio: av.audio.stream.AudioStream | None,
    sound: NDArray[np.float32],
    start: int,
) -> None:
    if audio is None:
        return
    layout = audio.codec_context.format.name
    for first in range(0, len(sound), 1024):
        samples = sound[first : first + 1024]
        if layout.startswith("s16"):
            samples = (samples * 20_000).astype(np.int16)
        block = av.AudioFrame.from_ndarray(samples[None], format=layout, layout="mono")
        block.sample_rate, block.pts, block.time_base = RATE, start + first, Fraction(1, RATE)
        out.mux(audio.encode(block))
    out.mux(audio.encode(None))


def flashes(path: Path) -> list[float]:
    """Seconds of the white pictures of a video."""
    with av.open(str(path)) as container:
        return [
            float(frame.pts * frame.time_base)
            for frame in container.decode(video=0)
            if frame.to_ndarray(format="gray").mean() > 180
        ]


def beeps(path: Path) -> list[float]:
    """Seconds at which the sound of a video becomes loud."""
    found: list[float] = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray().astype(np.float32)).max(axis=0) > 0.3)
            if loud.size:
                at = float(frame.pts * frame.time_base) + float(loud[0]) / frame.sample_rate
                if not found or at - found[-1] > 2 * BEEP:
                    found.append(at)
    return found
