"""Frames, instances, and small clips with and without sound."""

import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import msgspec
import numpy as np
from numpy.typing import NDArray

from streamseg.results.frame_result import frame_result
from streamseg.types import Frame, FramePolicy, FrameResult, Instances, StreamInfo
from streamseg.types.zones import ZoneEvent

TIME_BASE = Fraction(1, 12800)
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (230, 159, 0), (0, 158, 115), (128, 128, 128)]


def info(stream: str = "cam", *, live: bool = False, **changes: object) -> StreamInfo:
    values: dict[str, object] = {
        "stream": stream,
        "url": f"{stream}.mp4",
        "policy": FramePolicy.NEWEST_FRAME if live else FramePolicy.EVERY_FRAME,
        "epoch": 0,
        "width": 64,
        "height": 48,
        "time_base": TIME_BASE,
        "fps": 25.0,
        "frame_count": None,
    }
    return StreamInfo(**(values | changes))  # type: ignore[arg-type]


def bars(width: int, height: int) -> NDArray[np.uint8]:
    """Vertical bars of saturated colours."""
    columns = np.arange(width) * len(COLOURS) // width
    return np.broadcast_to(np.array(COLOURS, np.uint8)[columns], (height, width, 3)).copy()


def frame(
    index: int,
    *,
    stream: str = "cam",
    epoch: int = 0,
    ticks: int | None = None,
    size: tuple[int, int] = (64, 48),
    at: float | None = None,
    pixels: NDArray[np.uint8] | None = None,
) -> Frame:
    """``at``: seconds on both clocks when it was decoded, now by default."""
    return Frame(
        stream=stream,
        epoch=epoch,
        index=index,
        ticks=index * 512 if ticks is None else ticks,
        time_base=TIME_BASE,
        time=time.time() if at is None else at,
        pixels=bars(*size) if pixels is None else pixels,
        decoded_at=time.monotonic() if at is None else at,
    )


def instances(size: tuple[int, int] = (64, 48), boxes: Sequence[tuple[int, int, int, int]] = ()) -> Instances:
    n = len(boxes)
    return Instances(
        height=size[1],
        width=size[0],
        class_ids=np.zeros(n, np.int64),
        labels=("person",) * n,
        scores=np.linspace(0.9, 0.5, n, dtype=np.float32),
        boxes=np.array(boxes, np.int64).reshape(n, 4),
        crops=tuple(np.ones((y2 - y1, x2 - x1), np.bool_) for x1, y1, x2, y2 in boxes),
        ids=tuple(range(n)),
    )


def result_of(frame_: Frame, found: Instances | None = None) -> FrameResult:
    found = found or instances((frame_.width, frame_.height))
    return frame_result(frame_, found, model="demo", published_at=frame_.decoded_at)


def read_video(path: Path) -> tuple[list[float], list[NDArray[np.uint8]]]:
    """Time stamps in seconds and RGB pictures."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [float(f.pts * f.time_base) for f in frames], [f.to_ndarray(format="rgb24") for f in frames]


def read_audio(path: Path) -> list[tuple[float, bytes]]:
    """Start in seconds and content of each audio packet."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return []
        packets = [p for p in container.demux(container.streams.audio[0]) if p.size]
        return [(float(p.pts * p.time_base), bytes(p)) for p in packets]


def write_tone_clip(path: Path, *, seconds: float, codec: str = "aac", container: str | None = None) -> None:
    """A 64x48 clip at 25 fps with a tone."""
    with av.open(str(path), "w", format=container) as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = out.add_stream(codec, rate=48000, layout="mono")
        for i in range(round(seconds * 25)):
            picture = av.VideoFrame.from_ndarray(bars(64, 48), format="rgb24")
            picture.pts, picture.time_base = i, Fraction(1, 25)
            out.mux(video.encode(picture))
        tone = np.sin(np.arange(round(seconds * 48000)) / 20).astype(np.float32)
        for start in range(0, len(tone) - 1024, 1024):
            samples = tone[start : start + 1024]
            if audio.codec_context.format.name.startswith("s16"):
                samples = (samples * 20000).astype(np.int16)
            sound = av.AudioFrame.from_ndarray(
                samples[None], format=audio.codec_context.format.name, layout="mono"
            )
            sound.sample_rate, sound.pts, sound.time_base = 48000, start, Fraction(1, 48000)
            out.mux(audio.encode(sound))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))


def happening(number: int, *, stream: str = "a") -> FrameResult:
    """A result in which three objects enter a zone."""
    result = result_of(frame(number, stream=stream))
    event = ZoneEvent(
        stream=stream,
        epoch=0,
        frame=number,
        pts=result.pts,
        time=result.time,
        event="enter",
        zone="door",
        id=0,
        label="person",
        box=(0.0, 0.0, 1.0, 1.0),
        counts={"door": 1},
    )
    events = tuple(msgspec.structs.replace(event, id=3 * number + k) for k in range(3))
    return msgspec.structs.replace(result, events=events)
