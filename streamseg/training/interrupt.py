"""Ctrl-C and SIGTERM: the step is finished and a checkpoint written."""

import logging
import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Remembers the first signal; a second one aborts.

    In a process that was spawned by another one, further signals mean no more than the first: the
    terminal and the parent may both have sent theirs. The end of the parent counts as a signal.
    """

    def __init__(self, *, spawned: bool = False) -> None:
        self.signal: int | None = None
        self._spawned = spawned
        self._parent = os.getppid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def wanted(self) -> bool:
        """Whether to stop."""
        if self._spawned and os.getppid() != self._parent and self.signal is None:
            self.signal = signal.SIGTERM
        return self.signal is not None

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number
            logger.info("stopping after this step; once more to abort")
        elif not self._spawned:
            os._exit(128 + number)


class Forward(StopRequest):
    """Of a process that only waits for the ones it spawned: hands the signal on, the second kills them."""

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            for child in multiprocessing.active_children():
                child.kill()
            os._exit(128 + number)
        self.signal = number
        for child in multiprocessing.active_children():
            child.terminate()
