"""What parent and decode worker say to each other, and the socket that carries it.

    parent -> worker    Open, Release, Stop
    worker -> parent    Opened (with the ring's file descriptor), Decoded, Skipped, Alive, Harm, Ended

The socket keeps message boundaries (SOCK_SEQPACKET), so a message is one msgpack map, without a
length in front. Pixels never travel here.
"""

from __future__ import annotations

import os
import socket
from fractions import Fraction
from typing import Generic, Literal, TypeVar

import msgspec

from streamseg.sources.source import Source
from streamseg.types import StreamInfo

MAX_MESSAGE = 1 << 16
"""Bytes: far above any message (the longest holds a URL), below what the socket buffers."""


class Open(msgspec.Struct, frozen=True, tag=True):
    """Read this source; the worker answers with Opened … Ended."""

    job: int
    """Number of the opening within its worker; every other message names it."""
    source: Source
    first_index: int
    """Number of the first frame: a live stream goes on counting after a reconnect."""
    slots: int
    max_ring_bytes: int


class Release(msgspec.Struct, frozen=True, tag=True):
    """The pixels in this slot are no longer looked at."""

    job: int
    slot: int


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Give up what is being read and exit."""


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The first frame was decoded: this is the stream. The ring's file descriptor comes along."""

    job: int
    width: int
    height: int
    time_base: tuple[int, int]
    """Numerator and denominator, seconds per tick."""
    fps: float | None
    frame_count: int | None
    has_audio: bool
    slots: int
    origin: float
    """Seconds on the stream's clock where the file begins: not 0 in a transport stream."""

    def describe(self, source: Source, epoch: int) -> StreamInfo:
        """The same in the words of the house."""
        return StreamInfo(
            stream=source.id,
            url=source.url,
            policy=source.policy,
            epoch=epoch,
            width=self.width,
            height=self.height,
            time_base=Fraction(*self.time_base),
            fps=self.fps,
            frame_count=self.frame_count,
            start=0.0 if source.live or not source.start else self.origin + source.start,
            end=None if source.live or source.end is None else self.origin + source.end,
            has_audio=self.has_audio,
        )


class Decoded(msgspec.Struct, frozen=True, tag=True):
    """A frame lies in this slot of the ring."""

    job: int
    slot: int
    index: int
    ticks: int
    time: float
    """UNIX seconds."""


class Skipped(msgspec.Struct, frozen=True, tag=True):
    """A live source's frames up to this number were decoded; those not handed over found no free slot."""

    job: int
    next_index: int


class Alive(msgspec.Struct, frozen=True, tag=True):
    """The job was begun, or decoding goes on although there is nothing to hand over."""

    job: int


class Harm(msgspec.Struct, frozen=True, tag=True):
    """A recording was damaged in places; sent once, before Ended."""

    job: int
    lost: int
    """Frames that could not be decoded."""
    concealed: int
    """Frames that the decoder patched up."""


Refused = Literal["user", "path"]
"""What a server said no to: the user (401, 403), or the path (404)."""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """Nothing more will come of this job."""

    job: int
    error: str | None
    """What went wrong, without path or URL; None at the proper end."""
    refused: Refused | None = None
    """Set if it went wrong because a live source's server refused us."""


FromParent = Open | Release | Stop
FromWorker = Opened | Decoded | Skipped | Alive | Harm | Ended
Incoming = TypeVar("Incoming")


class Channel(Generic[Incoming]):
    """One end of the socket. Any thread may send; only one may receive."""

    def __init__(self, end: socket.socket, decoder: msgspec.msgpack.Decoder[Incoming]) -> None:
        self._socket = end
        self._decoder = decoder

    def fileno(self) -> int:
        """File descriptor to wait on."""
        return self._socket.fileno()

    def send(self, message: FromParent | FromWorker, *, fd: int | None = None) -> None:
        """Send, with a file descriptor if given. Raises OSError when the other side is gone."""
        data = msgspec.msgpack.encode(message)
        if fd is None:
            self._socket.send(data)
        else:
            socket.send_fds(self._socket, [data], [fd])

    def receive(self) -> tuple[Incoming, int | None] | None:
        """Take one message and the file descriptor that came with it; None when the other side is gone.

        Raises BlockingIOError when the socket does not block and nothing is there.
        """
        try:
            data, fds, _flags, _address = socket.recv_fds(self._socket, MAX_MESSAGE, 1)
        except ConnectionError:
            return None
        if not data:
            return None
        return self._decoder.decode(data), fds[0] if fds else None

    def close(self) -> None:
        """Hang up; the other side sees it."""
        self._socket.close()


def parent_channel(end: socket.socket) -> Channel[FromWorker]:
    """The parent's end: it never blocks, for one stuck worker must not hold up the others."""
    end.setblocking(False)
    return Channel(end, msgspec.msgpack.Decoder(FromWorker))


def worker_channel(fd: int) -> Channel[FromParent]:
    """The worker's end, from the file descriptor it was started with."""
    os.set_inheritable(fd, False)
    return Channel(socket.socket(fileno=fd), msgspec.msgpack.Decoder(FromParent))
