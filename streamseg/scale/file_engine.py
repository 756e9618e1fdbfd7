"""What a worker of recordings has: its engine, and the files that this reads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from streamseg.scale.control import WantedStream
from streamseg.scale.engine_process import EngineProcess
from streamseg.scale.file_places import FilePlaces
from streamseg.scale.file_queue import Claim, Outcome
from streamseg.scale.file_work import FileWork

MOST_FILES = 2000
"""Of one engine, then another one begins: it tells the numbers of all that it had four times a second."""


@dataclass(slots=True)
class HeldFile:
    """A file that the worker has claimed."""

    claim: Claim
    kept: bool | None
    """Whether the engine goes on with what another has left; None while that is being copied."""
    results: int = 0

    def wanted(self) -> WantedStream:
        """As the engine is told."""
        return WantedStream(self.claim.config, since=0.0 if self.kept else None)


@dataclass(slots=True)
class FileEngine:
    """An engine process, and what became of it."""

    folder: str
    process: EngineProcess
    places: FilePlaces
    capacity: float | None = None
    """Frames per second; None until it is ready."""
    told: dict[str, int] = field(default_factory=dict)
    """What it was told to read last: numbers of claims, of which some may be over."""
    taken: int = 0
    """Files that it was told to read, altogether."""
    heard: float = 0.0
    trouble: str = ""
    failure: str = ""
    """What its outputs said last."""
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def full(self) -> bool:
        """Whether it takes no more files."""
        return self.taken >= MOST_FILES

    def end(self) -> None:
        """Finish what is written, and exit; by force after a while."""
        self.process.end(self.ended)


@dataclass(slots=True)
class WorkerState:
    """What the worker's threads share, behind one lock."""

    version: int = -1
    work: FileWork | None = None
    engine: FileEngine | None = None
    held: dict[str, HeldFile] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    trouble: str = ""
    fatal: str = ""
