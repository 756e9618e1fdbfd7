"""Damage of a live stream: which frames were patched up or follow a loss; what FFmpeg's log says of it.

FFmpeg marks a frame (``is_corrupt``) that a broken packet went into. RTP packets that never came, and slices
that its decoder made up, are only in its log.
"""

from __future__ import annotations

import logging
import re
import threading

import av
import av.logging
from av.video.frame import VideoFrame

_MISSED = re.compile(r"RTP: missed (\d+) packets")
_PATCHED = re.compile(r"concealing \d+ DC|error while decoding MB")


class DamageLog(logging.Handler):
    """Counts the damage that lines of FFmpeg's log tell of. Any thread."""

    def __init__(self) -> None:
        super().__init__()
        self._missed = 0
        self._patched = False
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a line about damage."""
        text = record.getMessage()
        with self._guard:
            if found := _MISSED.search(text):
                self._missed += int(found[1])
            elif _PATCHED.search(text):
                self._patched = True

    def take(self) -> tuple[int, bool]:
        """Packets that were missed since this was asked last, and whether a picture was patched up."""
        with self._guard:
            found = self._missed, self._patched
            self._missed, self._patched = 0, False
            return found


class LiveDamage:
    """Counts the damaged frames and the lost packets of a live source."""

    def __init__(self, log: DamageLog, *, segments: bool = False) -> None:
        """``segments``: it comes from a playlist, whose segments may count packets anew, which marks them."""
        self._log, self._segments = log, segments
        self._frames = self._packets = 0

    def came(self, frame: VideoFrame) -> bool:
        """The decoder gave a frame; returns whether it is damaged."""
        missed, patched = self._log.take()
        damaged = bool((frame.is_corrupt and not self._segments) or missed or patched)
        self._packets += missed
        self._frames += damaged
        return damaged

    def take(self) -> tuple[int, int]:
        """Damaged frames and lost packets since this was asked last."""
        found = self._frames, self._packets
        self._frames = self._packets = 0
        return found


def listen_while_opening() -> None:
    """Let FFmpeg say why a source cannot be opened: PyAV's errors quote it."""
    _hand_lines_to(logging.NullHandler())  # without any, Python prints them, URL and password included
    av.logging.set_level(av.logging.ERROR)


def listen_to(live: bool) -> DamageLog:
    """Go on listening to the log of a live source; of a recording, let it be silent.

    A recording's decoder has threads that end while Python's lock is held: one that logs then waits for ever.
    """
    log = DamageLog()
    _hand_lines_to(log)
    av.logging.set_skip_repeated(False)
    av.logging.set_level(av.logging.INFO if live else None)
    return log


def _hand_lines_to(handler: logging.Handler) -> None:
    speaker = logging.getLogger("libav")
    speaker.handlers[:] = [handler]
    speaker.setLevel(logging.INFO)
    speaker.propagate = False
