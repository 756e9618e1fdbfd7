"""Frames and openings that no video stands behind."""

from __future__ import annotations

import time
from fractions import Fraction

import numpy as np

from streamseg.types import Frame, FramePolicy, Instances, StreamInfo


def make_info(
    stream: str = "a", *, policy: FramePolicy = FramePolicy.EVERY_FRAME, width: int = 8, height: int = 4
) -> StreamInfo:
    return StreamInfo(
        stream=stream,
        url=f"{stream}.mp4",
        policy=policy,
        epoch=0,
        width=width,
        height=height,
        time_base=Fraction(1, 25),
        fps=25.0,
        frame_count=None,
    )


def make_frame(
    stream: str, index: int, *, width: int = 8, height: int = 4, decoded_at: float | None = None
) -> Frame:
    """Decoded now, if nothing else is said."""
    return Frame(
        stream=stream,
        epoch=0,
        index=index,
        ticks=index,
        time_base=Fraction(1, 25),
        time=0.0,
        pixels=np.zeros((height, width, 3), np.uint8),
        decoded_at=time.monotonic() if decoded_at is None else decoded_at,
    )


def no_instances(height: int = 4, width: int = 8) -> Instances:
    return Instances(
        height=height,
        width=width,
        class_ids=np.zeros(0, np.int64),
        labels=(),
        scores=np.zeros(0, np.float32),
        boxes=np.zeros((0, 4), np.int64),
        crops=(),
    )
