"""What ends a command early."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Protocol

from streamseg.cli.say import say


class Stoppable(Protocol):
    """Work that can be told to come to its end."""

    def stop(self) -> None:
        """Finish what was begun; in any thread."""


class StopOnSignal:
    """The first SIGINT or SIGTERM drains the work and finishes its files, the second aborts.

    SIGHUP is one of them, too: the terminal was closed. (With a configuration file a run reads that anew,
    and behind nohup it means nothing.)
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.work: Stoppable | None = None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None or self.work is None:
            # Nothing has begun, or this is the second signal. The workers end with this process.
            os._exit(128 + number)
        self.signal = number
        say("stopping: finishing what was decoded; once more to abort")
        # Not here: the main thread may hold the very lock that stopping takes.
        threading.Thread(target=self.work.stop, name="stop", daemon=True).start()
