"""The parent and a decode worker: their messages, and the socket between them.

    parent -> worker    Open, Release, Limit, Stop
    worker -> parent    Waiting, Opened and Resized (with a ring's file descriptor each), Decoded, Counted,
                        Damaged, Alive, Note, Ended

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
from streamseg.types import FramePolicy, StreamInfo

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
    """Nobody looks at the pixels in these slots any more."""

    job: int
    slots: tuple[int, ...]
    ring: int = 0
    """Number of their ring within the job."""


class Limit(msgspec.Struct, frozen=True, tag=True):
    """From now on hand over so many frames of the live source a second at most; None for all."""

    job: int
    max_fps: float | None


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Stop reading and exit."""


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The first frame was decoded: this is the stream. The ring's file descriptor comes along."""

    job: int
    live: bool
    """Whether it is read as a live source."""
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
    fallback: str | None = None
    """Why the processor decodes although another device was wanted."""
    begins: float = 0.0
    """Seconds on the stream's clock where the first picture is shown."""
    pixel_aspect: tuple[int, int] = (1, 1)
    """Width and height of a pixel as it is shown."""
    reread: bool = True
    """Whether the source can be opened a second time."""

    def describe(self, source: Source, epoch: int) -> StreamInfo:
        """The same as the event that the pool hands on."""
        return StreamInfo(
            stream=source.id,
            url=source.url,
            policy=FramePolicy.NEWEST_FRAME if self.live else FramePolicy.EVERY_FRAME,
            epoch=epoch,
            width=self.width,
            height=self.height,
            time_base=Fraction(*self.time_base),
            fps=self.fps,
            frame_count=self.frame_count,
            start=0.0 if self.live or not source.start else self.origin + source.start,
            end=None if self.live or source.end is None else self.origin + source.end,
            has_audio=self.has_audio,
            source=source.place,
            origin=0.0 if self.live else self.begins,
            pixel_aspect=Fraction(*self.pixel_aspect),
            reread=self.reread,
            first_epoch=source.first_epoch,
            claim=source.claim,
        )


class Resized(msgspec.Struct, frozen=True, tag=True):
    """The pictures of a recording have another size from here on. Their ring's descriptor comes along."""

    job: int
    ring: int
    """Its number within the job, from 1."""
    width: int
    height: int
    pixel_aspect: tuple[int, int]
    slots: int


class Decoded(msgspec.Struct, frozen=True, tag=True):
    """A frame lies in this slot of the ring."""

    job: int
    slot: int
    index: int
    ticks: int
    time: float
    """When it was decoded, in UNIX seconds."""
    decoded_at: float
    """The same moment in seconds of the monotonic clock, which all processes of a machine share."""
    seconds: float
    """Spent on decoding it, and on frames before it that were not handed over."""
    passed_over: int = 0
    """Frames not counted so far that a live source's ``max_fps`` left no room for."""


class Counted(msgspec.Struct, frozen=True, tag=True):
    """A live source's frames below this number were decoded; those not handed over are dropped."""

    job: int
    next_index: int
    damaged: int = 0
    """How many of these are dropped because they are damaged."""
    passed_over: int = 0
    """How many of these are dropped because ``max_fps`` leaves no room for them."""


class Waiting(msgspec.Struct, frozen=True, tag=True):
    """Data comes, but nothing could be decoded yet: the first key frame is still to come."""

    job: int
    live: bool


class Alive(msgspec.Struct, frozen=True, tag=True):
    """The job was begun, or decoding goes on although there is nothing to hand over."""

    job: int


class Damaged(msgspec.Struct, frozen=True, tag=True):
    """More damage was found: in a live source now, in all of a recording before Ended."""

    job: int
    lost: int
    """Frames of a recording that could not be decoded."""
    concealed: int
    """Frames that the decoder patched up, or before which packets were lost."""
    packets: int = 0
    """Packets of a live source that did not come."""


class Note(msgspec.Struct, frozen=True, tag=True):
    """Something about the source that the user should know."""

    job: int
    text: str


Refused = Literal["user", "path"]
"""What a server refused: the user (401, 403), or the path (404)."""


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The source is read to its end, or cannot be read on: the last message of this job."""

    job: int
    error: str | None
    """What went wrong, without path or URL; None at the proper end."""
    refused: Refused | None = None
    """Set if a live source's server refused the connection."""


FromParent = Open | Release | Limit | Stop
FromWorker = Waiting | Opened | Resized | Decoded | Counted | Alive | Damaged | Note | Ended
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
        """Send, with a file descriptor if given.

        Raises BlockingIOError when the socket does not block and is full, another OSError when the other
        side is gone.
        """
        data = msgspec.msgpack.encode(message)
        if fd is None:
            self._socket.send(data)
        else:
            socket.send_fds(self._socket, [data], [fd])

    def receive(self) -> tuple[Incoming, int | None] | None:
        """Take one message and the file descriptor that came with it; None when the other side is gone.

        The system throws the descriptor away, and delivers the message, if this process may open no more.
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
        """Close the connection; the other side sees it."""
        self._socket.close()


def parent_channel(end: socket.socket) -> Channel[FromWorker]:
    """The parent's end: it never blocks, for a worker that hangs must not hold up the others."""
    end.setblocking(False)
    return Channel(end, msgspec.msgpack.Decoder(FromWorker))


def worker_channel(fd: int) -> Channel[FromParent]:
    """The worker's end, from the file descriptor it was started with."""
    os.set_inheritable(fd, False)
    return Channel(socket.socket(fileno=fd), msgspec.msgpack.Decoder(FromParent))
