"""What can be wrong with a source: a file cut off or damaged, a camera too fast, an error to put in words.

All of this runs in the decode worker: :class:`streamseg.sources.decode.VideoReader` shows each packet and
each frame to these classes.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable

import av
from av import Packet
from av.container import InputContainer
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from streamseg.sources.messages import Refused

OUT_OF_MEMORY = "out of memory: a decode worker may take 4 GiB"
_UNRESOLVED = re.compile(r"Failed to resolve hostname ([^\s:]+): (.+)")

_REFUSALS = {
    av.error.HTTPUnauthorizedError: "user or password refused (401 Unauthorized)",
    av.error.HTTPForbiddenError: "access refused (403 Forbidden)",
    av.error.HTTPNotFoundError: "no such stream there (404 Not Found)",
}

SLACK = 1.0
"""Seconds that may be missing: the last picture's duration is often not written."""
INDEX_TAIL = 256
"""Last entries of an index that are looked at: the index is in time, the file only roughly so."""
MICROSECONDS = 1_000_000

PATIENCE = 2.0
"""Seconds without waiting after which a live source counts as faster than its decoder."""
IDLE_SHARE = 0.02
"""Share of the time that reading waits for the camera, at least, while the decoder keeps up."""
NOTICEABLE = 0.005
"""Seconds of waiting which show that the socket is empty: copying a packet takes far less."""


class ReadError(Exception):
    """A source cannot be opened or read on; the text says why, without path or URL."""

    def __init__(self, text: str, refused: Refused | None = None) -> None:
        super().__init__(text)
        self.refused = refused


def refusal(error: Exception) -> Refused | None:
    """What a server refused, so that asking again soon will not help; None for any other error."""
    if isinstance(error, (av.error.HTTPUnauthorizedError, av.error.HTTPForbiddenError)):
        return "user"
    return "path" if isinstance(error, av.error.HTTPNotFoundError) else None


def explain(error: Exception, *, live: bool = False) -> str:
    """One line on what FFmpeg or the system said, without the path or URL that they put into it."""
    if isinstance(error, (av.error.ExitError, TimeoutError)):
        return "no data came in time"
    if getattr(error, "errno", None) == errno.ENOMEM:
        return OUT_OF_MEMORY
    refused = [text for kind, text in _REFUSALS.items() if live and isinstance(error, kind)]
    if known := refused[0] if refused else _unknown_host(error):
        return known
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(error, av.error.InvalidDataError):
        return f"no usable video came ({text})" if live else f"not a readable video ({text})"
    return str(text)


def _unknown_host(error: Exception) -> str | None:
    """What FFmpeg's log says of a name that is not found: the error itself is one of input or output."""
    said = getattr(error, "log", None)
    match = _UNRESOLVED.search(said[2]) if said else None
    return f"the host {match[1]} is not found ({match[2].strip()})" if match else None


class TruncationCheck:
    """Tells whether a recorded file is partial: FFmpeg reads a file that was cut off without complaint.

    Only statements that hold for every healthy file are used: byte positions from the index of MP4 and
    MOV, the total duration that Matroska and FLV write into their header, AVI's number of frames. A
    transport stream states nothing. Durations of MP4 are no use: edit lists and long audio tracks bend them.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, *, from_start: bool) -> None:
        """``from_start``: reading begins at the file's first frame."""
        self._container, self._stream, self._from_start = container, stream, from_start
        self._formats = frozenset(container.format.name.split(","))
        self._seen_until = 0.0
        self._longest_gap = 0.0
        self._packets = 0
        self._last_seen: float | None = None
        self._partial = False

    def watch(self, packet: Packet[Stream]) -> None:
        """Take note of one packet of any stream of the file."""
        begin = packet.pts if packet.pts is not None else packet.dts
        if begin is not None and packet.time_base is not None:
            end = float((begin + (packet.duration or 0)) * packet.time_base)
            self._seen_until = max(self._seen_until, end)
        if packet.stream.index == self._stream.index and packet.size:
            self._packets += 1
            self._watch_gap(packet)

    def is_partial(self, packet: Packet[Stream]) -> bool:
        """Whether the file ends in the midst of this packet, which must then not be decoded.

        The decoder would not only fail on it, but PyAV would lose frames that are still in the decoder.
        """
        # In a transport stream the mark is about lost radio packets, and decoding goes on; in a playlist each
        # segment may count its packets anew.
        partial = packet.is_corrupt and not self._formats & {"mpegts", "hls"}
        self._partial = self._partial or partial
        return partial

    def _watch_gap(self, packet: Packet[Stream]) -> None:
        if packet.dts is None or packet.time_base is None:
            return
        now = float(packet.dts * packet.time_base)
        if self._last_seen is not None:
            self._longest_gap = max(self._longest_gap, now - self._last_seen)
        self._last_seen = now

    def missing(self) -> str | None:
        """What is missing now that the end was reached, in words; None when nothing is."""
        missing = None
        if self._formats & {"mov", "mp4"}:
            missing = self._missing_bytes()
        elif self._formats & {"matroska", "webm", "flv"}:
            missing = self._missing_seconds()
        elif "avi" in self._formats and self._from_start:
            missing = self._missing_frames()
        return missing or ("the file is cut off in the midst of a frame" if self._partial else None)

    def _missing_bytes(self) -> str | None:
        index, size = self._stream.index_entries, self._container.size
        needed = max((entry.pos + entry.size for entry in index[-INDEX_TAIL:]), default=0)
        return f"the file is cut off: it has {size} of at least {needed} bytes" if 0 < size < needed else None

    def _missing_seconds(self) -> str | None:
        if self._container.duration is None:
            return None
        stated = self._container.duration / MICROSECONDS
        came = self._seen_until - (self._container.start_time or 0) / MICROSECONDS
        if stated - came <= max(SLACK, 2 * self._longest_gap):
            return None
        return f"the file is cut off: {came:.2f} of {stated:.2f} s are there"

    def _missing_frames(self) -> str | None:
        stated, rate = self._stream.frames, float(self._stream.average_rate or 1)
        if stated - self._packets <= SLACK * rate:
            return None
        return f"the file is cut off: {self._packets} of {stated} frames are there"


class DamageCounter:
    """Counts the frames of a damaged recording that did not come, and those that were patched up.

    The decoder fails on one packet, and leaves out the pictures that were built on it without saying so.
    So the packets that went in are compared with the frames that came out, by presentation time.
    """

    def __init__(self) -> None:
        self.concealed = 0
        """Frames that the decoder patched up."""
        self._errors = 0
        self._missing = 0
        self._begun = False
        self._pending: set[int] = set()
        """Presentation times of packets whose frame has not come yet."""
        self._one_each = True
        """Whether each packet gives a frame: not so with fields, or with VP8's invisible frames."""

    @property
    def lost(self) -> int:
        """Frames after the first one that did not come because of damage."""
        if not self._errors and not self.concealed:
            return 0
        return max(self._errors, self._missing if self._one_each else 0)

    def sent(self, packet: Packet[Stream]) -> None:
        """The decoder is given a packet."""
        if packet.size and packet.pts is not None and not packet.is_discard:
            self._pending.add(packet.pts)

    def failed(self) -> None:
        """The decoder could not make anything of a packet."""
        # A recording often begins in the middle of a group of pictures: that is no damage.
        self._errors += self._begun

    def came(self, frame: VideoFrame) -> None:
        """The decoder gave a frame; frames come in the order of their times."""
        self.concealed += frame.is_corrupt
        if frame.pts is None:
            self._one_each = False
        else:
            passed = {pts for pts in self._pending if pts <= frame.pts}
            self._pending -= passed
            self._count(len(passed - {frame.pts}))
        self._begun = True

    def ended(self) -> None:
        """The decoder gave its last frame."""
        self._count(len(self._pending))
        self._pending.clear()

    def _count(self, missing: int) -> None:
        if not self._begun or not missing:
            return
        self._missing += missing
        if not self._errors and not self.concealed:
            self._one_each = False


class CatchUp:
    """Says which packets of a live source to drop, so that pictures do not get older and older.

    A reader that is slower than the camera never waits for the next packet, while more and more pile up
    in the socket: after 20 s at 8 of 25 frames/s it is 13 s behind. Then everything in the socket is
    dropped, and decoding goes on at the next key frame.
    """

    def __init__(self, *, patience: float = PATIENCE, clock: Callable[[], float] = time.monotonic) -> None:
        """``patience`` is in seconds of ``clock``."""
        self._patience, self._clock = patience, clock
        self._since = clock()
        self._waited = 0.0
        self._dropping = self._empty = False

    def wants(self, *, waited: float, is_keyframe: bool) -> bool:
        """Whether to decode the next packet, for which reading waited so many seconds."""
        if self._dropping:
            self._empty = self._empty or waited > NOTICEABLE
            self._dropping = not (self._empty and is_keyframe)
            self._measure_anew()
        else:
            self._waited += waited
            self._judge()
        return not self._dropping

    def _judge(self) -> None:
        seconds = self._clock() - self._since
        if seconds >= self._patience:
            self._dropping, self._empty = self._waited < IDLE_SHARE * seconds, False
            self._measure_anew()

    def _measure_anew(self) -> None:
        self._since, self._waited = self._clock(), 0.0
