"""Did a recorded file give all it promised? FFmpeg reads a file that was cut off without complaint.

Only promises that hold for every healthy file are taken: byte positions from the index of MP4 and
MOV, the total duration that Matroska and FLV write into their header, AVI's number of frames. A transport
stream promises nothing. Durations of MP4 are no use: edit lists and long audio tracks bend them.
"""

from __future__ import annotations

from av import Packet
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

SLACK = 1.0
"""Seconds that may be missing: the last picture's duration is often not written."""
INDEX_TAIL = 256
"""Last entries of an index that are looked at: the index is in time, the file only roughly so."""
MICROSECONDS = 1_000_000


class Completeness:
    """Watches the packets of a recorded file go by."""

    def __init__(self, container: InputContainer, stream: VideoStream, *, from_start: bool) -> None:
        self._container = container
        self._stream = stream
        self._seen_until = 0.0
        self._longest_gap = 0.0
        self._packets = 0
        self._last_seen: float | None = None
        self._from_start = from_start
        self._formats = frozenset(container.format.name.split(","))
        self._partial = False

    def watch(self, packet: Packet[Stream]) -> None:
        """Take note of one packet of any stream of the file."""
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None and packet.time_base is not None:
            end = float((time + (packet.duration or 0)) * packet.time_base)
            self._seen_until = max(self._seen_until, end)
        if packet.stream.index == self._stream.index and packet.size:
            self._packets += 1
            self._watch_gap(packet)

    def is_partial(self, packet: Packet[Stream]) -> bool:
        """Whether the file ends in the midst of this packet, which is then no use to the decoder.

        The decoder would not only fail on it, but PyAV would lose frames that are still in it.
        """
        # In a transport stream the mark is about lost radio packets, and decoding goes on.
        partial = packet.is_corrupt and "mpegts" not in self._formats
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
        promised = self._container.duration / MICROSECONDS
        came = self._seen_until - (self._container.start_time or 0) / MICROSECONDS
        if promised - came <= max(SLACK, 2 * self._longest_gap):
            return None
        return f"the file is cut off: {came:.2f} of {promised:.2f} s are there"

    def _missing_frames(self) -> str | None:
        promised, rate = self._stream.frames, float(self._stream.average_rate or 1)
        if promised - self._packets <= SLACK * rate:
            return None
        return f"the file is cut off: {self._packets} of {promised} frames are there"
