"""Which frames of a damaged recording did not come, and which came patched up.

The decoder fails on one packet, and leaves out the pictures that were built on it without a word. So
what went in is compared with what came out, by presentation time.
"""

from __future__ import annotations

from av import Packet
from av.stream import Stream
from av.video.frame import VideoFrame


class Losses:
    """Watches the packets and frames of one recording."""

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
        """The decoder gave a frame; they come in the order of their times."""
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
