"""What an owner and its engine process say to each other: one JSON object a line, over a Unix socket.

    owner -> engine    Begin (first), Wanted, Finish, Stop
    engine -> owner    Ready (once), Opened, Numbers, Written, OutputFailed; at last Summary or Failed

The owner is the parent of several engines on one machine, or a worker of a cluster. The engine is the
ordinary program, whose streams are those that its owner wants. Neither frames nor results travel here.
The engine ends at once when the socket is closed: its owner is gone, and another may give its streams away.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Generic, TypeVar

import msgspec

from streamseg.types import StreamState

REPORT_SECONDS = 0.25
"""Between two reports of an engine's numbers: also a sign of life."""


class WantedStream(msgspec.Struct, frozen=True, omit_defaults=True):
    """A stream that an engine is to read."""

    config: dict[str, Any]
    """The keys of :class:`streamseg.config.StreamConfig`, with an ``id``, of one source."""
    first_epoch: int = 0
    """Lowest epoch of a camera's results. Recordings have no other epoch than 0."""
    since: float | None = None
    """Set if another engine, or an interrupted run, may have begun with the stream: UNIX seconds when that
    run began. A recording goes on where its NDJSON file ends, as with ``--resume``, a camera is written
    behind what is there from this time on."""

    @property
    def id(self) -> str:
        """Of the stream."""
        return str(self.config["id"])


class Begin(msgspec.Struct, frozen=True, tag=True):
    """What to be: the configuration of a run, of whose streams and device no notice is taken."""

    config: dict[str, Any]
    """The keys of :class:`streamseg.config.RunConfig`; ``model.device`` is one device."""
    several: bool
    """Whether outputs are for more than one stream, see :func:`streamseg.outputs.files.output_path`."""


class Wanted(msgspec.Struct, frozen=True, tag=True):
    """All streams to read from now on; those that are not named end, and what was decoded is finished."""

    streams: list[WantedStream]


class Finish(msgspec.Struct, frozen=True, tag=True):
    """Nothing more will be wanted: end when all streams are over."""


class Stop(msgspec.Struct, frozen=True, tag=True):
    """The user has stopped the run: end all streams, and be over within 10 s."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The model is loaded and warm."""

    capacity: float
    """Frames per second of the network with full batches, measured."""
    model: str
    """Name of the weights, as results bear it."""
    classes: tuple[str, ...]
    """Names of all that the model finds."""
    urls: list[str]
    """Where the live page and the metrics are served, in this order, as far as the configuration has them."""


class Opened(msgspec.Struct, frozen=True, tag=True):
    """A source was opened, or opened again; sent before the first result of the epoch."""

    stream: str
    epoch: int
    live: bool
    """Whether it is read as a camera."""
    width: int
    height: int
    fps: float | None
    frame_count: int | None
    """Of a recording, an estimate."""
    source: str
    """As results name it."""


class StreamNumbers(msgspec.Struct, omit_defaults=True):
    """How a stream does and what this engine has counted of it, as in its ``StreamStats``."""

    state: StreamState = StreamState.CONNECTING
    reconnects: int = 0
    received: int = 0
    results: int = 0
    dropped: dict[str, int] = {}
    labels: dict[str, int] = {}
    lost: int = 0
    concealed: int = 0
    packets: int = 0
    kept: int = 0
    error: str | None = None
    ended: bool = False
    stopped: bool = False
    over: bool = False
    """Whether nothing but its outputs' files is left to be finished."""
    taken: bool = True
    """Whether its results find their way out somewhere."""


class OutputNumbers(msgspec.Struct):
    """How an output of an engine does, see :class:`streamseg.outputs.health.OutputHealth`."""

    name: str
    trouble: str | None
    dropped: dict[str, int]
    errors: int


class Numbers(msgspec.Struct, tag=True):
    """Sent several times a second, also if nothing has changed."""

    streams: dict[str, StreamNumbers]
    """Those that have changed since the last report."""
    outputs: list[OutputNumbers]
    queues: dict[str, int] = {}
    """Frames or results that wait, by queue."""
    outputs_gone: bool = False
    """Whether no output takes results any more."""


class Written(msgspec.Struct, tag=True):
    """A stream is over and its files are finished; only numbers of drops may come behind it."""

    stream: str
    numbers: StreamNumbers | None
    """None: nothing was left to do, all was written before."""


class OutputFailed(msgspec.Struct, frozen=True, tag=True):
    """An output could not write a stream, or anything; results may be missing in it."""

    error: str


class Summary(msgspec.Struct, frozen=True, tag=True):
    """All is written; the engine exits with 0."""


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The engine could not begin, or broke down; it exits with this code."""

    error: str
    exit_code: int


ToEngine = Begin | Wanted | Finish | Stop
FromEngine = Ready | Opened | Numbers | Written | OutputFailed | Summary | Failed

Received = TypeVar("Received")


class Channel(Generic[Received]):
    """One end of the socket. Anybody may send; one thread receives, by iterating."""

    def __init__(self, end: socket.socket, decoder: msgspec.json.Decoder[Received]) -> None:
        """Take over a connected stream socket."""
        self._socket, self._decoder = end, decoder
        self._sending = threading.Lock()
        self._encoder = msgspec.json.Encoder()

    def send(self, message: ToEngine | FromEngine) -> None:
        """Send a message; waits while the other side does not read. It is lost if the other side is gone."""
        line = self._encoder.encode(message) + b"\n"
        with self._sending, suppress(OSError):
            self._socket.sendall(line)

    def __iter__(self) -> Iterator[Received]:
        """All messages until the other side closes its end, or dies."""
        with suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # else it died in the middle of it
                    yield self._decoder.decode(line)

    def close(self) -> None:
        """Close this end, which ends the iteration on both sides."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def owner_channel(end: socket.socket) -> Channel[FromEngine]:
    """The owner's end."""
    return Channel(end, msgspec.json.Decoder(FromEngine))


def engine_channel(end: socket.socket) -> Channel[ToEngine]:
    """The engine's end."""
    return Channel(end, msgspec.json.Decoder(ToEngine))
