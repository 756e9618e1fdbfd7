"""What is opened: one source, and the words of its URL that may be shown."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from streamseg.errors import UsageError, mask_password
from streamseg.sources.places import PICTURE_EXTENSIONS, VIDEO_EXTENSIONS
from streamseg.types.ids import parse_stream_id

STREAM_ENDINGS = frozenset({".mjpeg", ".mjpg"})
"""Of URLs: cameras use them as well as files."""

OPEN_TIMEOUT = 5.0
"""Seconds until an opening counts as failed: analysing a camera behind a slow link takes 2 to 3."""
READ_TIMEOUT = 5.0
"""Seconds of silence after which a stream counts as stalled: five frames of a 1 fps camera."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True, slots=True, repr=False)
class Source:
    """One video stream to read. Raises UsageError when a value is out of range."""

    id: str
    """See :mod:`streamseg.types.ids`."""
    url: str
    """Path or URL, credentials included: show :attr:`shown` instead."""
    live: bool | None
    """A camera or another stream without an end; False for a recording that is read in full; None as long
    as that is not known, which the decode worker finds out when it opens a URL of the web."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How RTSP carries the video; other protocols ignore it."""
    decode: Literal["auto", "cpu", "cuda", "qsv"] = "auto"
    """Where it is decoded; the processor does it where there is no such device."""
    start: float = 0.0
    """Recordings: seconds from the beginning where the selected part starts."""
    end: float | None = None
    """Recordings: seconds from the beginning where it ends (exclusive), None for the end of the file."""
    stride: int = 1
    """Recordings: take every ``stride``-th frame of the selected part."""
    open_timeout: float = OPEN_TIMEOUT
    """Seconds until an attempt to open is given up (URLs only)."""
    read_timeout: float = READ_TIMEOUT
    """Seconds without a frame until a live source counts as stalled, without data until a recording on
    the web counts as broken off."""
    deinterlace: Literal["auto", "off"] = "auto"
    """Whether interlaced pictures are made whole; ``auto``: those that say that they are interlaced."""
    reconnect_attempts: int | None = None
    """Live sources: new attempts in a row that may fail before it is given up; None for any number."""
    damaged: Literal["keep", "drop"] = "keep"
    """Live sources: what happens to frames that were patched up, or before which packets were lost."""
    max_fps: float | None = None
    """Live sources: so many frames a second at most, evenly spaced; None for all that come."""
    first_epoch: int | None = None
    """Where several engines may have the stream in turn: the first epoch of this one, 0 or more. Earlier
    ones are those of earlier owners."""

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "id", parse_stream_id(self.id))
        except ValueError as error:
            raise UsageError(f"stream id {self.id!r}: {error}") from error
        if self.transport not in {"tcp", "udp"}:
            raise UsageError(f"stream {self.id}: transport {self.transport!r}: allowed are tcp, udp")
        if self.decode not in {"auto", "cpu", "cuda", "qsv"}:
            raise UsageError(f"stream {self.id}: decode {self.decode!r}: allowed are auto, cpu, cuda, qsv")
        if not 0 <= self.start < math.inf:
            raise UsageError(f"start {self.start}: must be 0 seconds or more")
        if self.end is not None and not self.start < self.end < math.inf:
            raise UsageError(f"end {self.end}: must be more seconds than start, {self.start}")
        if self.stride < 1:
            raise UsageError(f"stride {self.stride}: must be 1 or more")
        if not 0 < min(self.open_timeout, self.read_timeout) < math.inf:
            raise UsageError(f"stream {self.id}: time-outs must be more than 0 seconds")
        if self.reconnect_attempts is not None and self.reconnect_attempts < 0:
            raise UsageError(f"stream {self.id}: reconnect_attempts must be 0 or more")
        if self.max_fps is not None and not 0 < self.max_fps < math.inf:
            raise UsageError(f"stream {self.id}: max_fps {self.max_fps}: must be more than 0")
        if self.first_epoch is not None and self.first_epoch < 0:
            raise UsageError(f"stream {self.id}: first_epoch must be 0 or more")

    @property
    def shown(self) -> str:
        """The URL for people: passwords and tokens are replaced by ``***``."""
        return mask_password(self.url) if scheme_of(self.url) else self.url

    @property
    def recorded(self) -> bool:
        """Whether it is a recording; taken for one by its name as long as nothing better is known."""
        if self.live is not None:
            return not self.live
        endings = (VIDEO_EXTENSIONS | PICTURE_EXTENSIONS) - STREAM_ENDINGS
        return Path(public_words(self.url)).suffix.lower() in endings

    @property
    def place(self) -> str:
        """Where it is, for people and for results: absolute path, or URL as in :attr:`shown`."""
        return self.shown if scheme_of(self.url) else os.path.abspath(self.url)

    def __repr__(self) -> str:
        return f"Source(id={self.id!r}, url={self.shown!r}, live={self.live})"


def scheme_of(url: str) -> str | None:
    """The scheme of a URL in small letters; None for a path."""
    match = _SCHEME.match(url)
    return match[1].lower() if match else None


def public_words(url: str) -> str:
    """Host and path of a URL, with nothing of what stands before the host, and secrets masked."""
    place = mask_password(url).partition("://")[2].rpartition("@")[2]
    host, _, path = place.partition("/")
    return f"{host.partition(':')[0]}/{unquote(path.partition('?')[0])}"


def place_key(place: str) -> str:
    """What tells the places of sources apart: a file is the same by whatever links it is reached."""
    return place if scheme_of(place) else os.path.realpath(place)
