"""Listening to a SourcePool, looking at its processes, and playing the part of its workers."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

from streamseg.sources import messages, worker_process
from streamseg.sources.ring import RingWriter
from streamseg.types import Frame, FramesDropped, SourceEvent, StreamChanged, StreamInfo, StreamState
from tests.support.media import read_counter

Message = TypeVar("Message")
PATIENCE = 40.0
"""Seconds a test waits for something that must happen; much more than it takes."""


@dataclass(frozen=True)
class Seen:
    """What a test remembers of a frame; the pixels are let go."""

    epoch: int
    index: int
    ticks: int
    counter: int
    shape: tuple[int, ...]
    time: float
    decoded_at: float


@dataclass
class Listener:
    """Takes the events of a pool; keeps whole frames only if asked to."""

    keep_frames: bool = False
    events: list[SourceEvent] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    seen: dict[str, list[Seen]] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __call__(self, event: SourceEvent) -> None:
        with self.changed:
            if isinstance(event, Frame):
                self._remember(event)
            else:
                self.events.append(event)
            self.changed.notify_all()

    def _remember(self, frame: Frame) -> None:
        assert not self.last(frame.stream).over, "a frame after the end of its stream"
        seen = Seen(
            frame.epoch,
            frame.index,
            frame.ticks,
            read_counter(frame.pixels),
            frame.pixels.shape,
            frame.time,
            frame.decoded_at,
        )
        self.seen.setdefault(frame.stream, []).append(seen)
        if self.keep_frames:
            self.frames.append(frame)

    def wait(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Wait until the condition holds, which is looked at after every event."""
        with self.changed:
            assert self.changed.wait_for(condition, patience), f"never happened; events: {self.events}"

    def changed_within(self, seconds: float) -> bool:
        """Whether an event comes in the next seconds: only to show that something is held up."""
        with self.changed:
            return self.changed.wait(seconds)

    def wait_for_end(self, *streams: str) -> None:
        """Wait until these streams have ended."""
        self.wait(lambda: set(streams) <= set(self.ended))

    @property
    def ended(self) -> dict[str, StreamChanged]:
        return {event.stream: event for event in self.changes if event.over}

    @property
    def changes(self) -> list[StreamChanged]:
        return [event for event in self.events if isinstance(event, StreamChanged)]

    def states(self, stream: str) -> list[str]:
        """The states it went through, further failures in a row left out."""
        states = [event.state.value for event in self.changes if event.stream == stream]
        return [state for state, before in zip(states, ["", *states], strict=False) if state != before]

    def last(self, stream: str) -> StreamChanged:
        return [event for event in self.changes if event.stream == stream][-1]

    @property
    def infos(self) -> list[StreamInfo]:
        return [event for event in self.events if isinstance(event, StreamInfo)]

    def decoded(self, stream: str) -> int:
        """Frames that came and frames that were dropped: all that were decoded."""
        drops = (e.count for e in self.events if isinstance(e, FramesDropped) and e.stream == stream)
        return len(self.seen.get(stream, [])) + sum(drops)

    @property
    def dropped(self) -> int:
        return sum(event.count for event in self.events if isinstance(event, FramesDropped))

    def counters(self, stream: str) -> list[int]:
        return [seen.counter for seen in self.seen.get(stream, [])]

    def error(self, stream: str) -> str:
        assert self.ended[stream].state is StreamState.FAILED
        return str(self.ended[stream].error)


def worker_pids(parent: int) -> list[int]:
    """The decode workers of a process that are not zombies."""
    return [pid for pid in children(parent) if b"streamseg.sources.worker" in command_line(pid)]


def command_line(pid: int) -> bytes:
    """Arguments of a process, with NUL behind each."""
    return _read(pid, "cmdline")


def children(parent: int) -> list[int]:
    """Processes that another has started and that are not zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            status = _read(int(entry.name), "stat").rpartition(b") ")[2].split()
            if len(status) > 1 and int(status[1]) == parent and status[0] != b"Z":
                found.append(int(entry.name))
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def is_running(pid: int) -> bool:
    status = _read(pid, "stat").rpartition(b") ")[2].split()
    return bool(status) and status[0] != b"Z"


def wait_until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait for something that sends no event."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.01)


class PlayedWorker:
    """The worker's end of the socket, in the hands of a test: instead of a process."""

    pid = 0

    def __init__(self, fd: int) -> None:
        self.channel = messages.worker_channel(os.dup(fd))
        self.ring: RingWriter | None = None
        self.request: messages.Open | None = None

    def open(self, *, width: int = 64, height: int = 48, slots: int = 4) -> None:
        """Take the next request, and say that its source is open."""
        self.request = self.receive(messages.Open)
        self.ring = RingWriter(height, width, slots)
        self.channel.send(
            messages.Opened(
                job=self.request.job,
                width=width,
                height=height,
                live=bool(self.request.source.live),
                time_base=(1, 25),
                fps=25.0,
                frame_count=None,
                has_audio=False,
                slots=slots,
                origin=0.0,
            ),
            fd=self.ring.fd,
        )

    def send_frame(self, index: int, *, time: float = 0.0, decoded_at: float = 0.0) -> None:
        """Hand a frame over; ``index`` counts from the number that was asked for."""
        assert self.request is not None
        assert self.ring is not None
        slot = self.ring.acquire(wait=False)
        assert slot is not None
        number = self.request.first_index + index
        self.channel.send(messages.Decoded(self.request.job, slot, number, number, time, decoded_at, 0.0))

    def end(self) -> None:
        """Say that the source has ended."""
        assert self.request is not None
        self.channel.send(messages.Ended(self.request.job, None))

    def take_release(self) -> None:
        """Wait until slots are given back."""
        assert self.ring is not None
        self.ring.release(self.receive(messages.Release).slots)

    def receive(self, kind: type[Message]) -> Message:
        received = self.channel.receive()
        assert received is not None
        assert isinstance(received[0], kind), received
        return received[0]

    def kill(self) -> None:
        self.channel.close()
        if self.ring is not None:
            self.ring.close()
            self.ring = None

    def poll(self) -> int | None:
        return None

    def wait(self, timeout: float) -> int:
        self.kill()
        return 0


@contextmanager
def played_workers() -> Iterator[list[PlayedWorker]]:
    """Let no pool start a process; gives the workers to be played, in the order of their start."""
    workers: list[PlayedWorker] = []

    def start(fd: int) -> PlayedWorker:
        workers.append(PlayedWorker(fd))
        return workers[-1]

    with patch.object(worker_process, "_start", start):
        yield workers
