"""The way home of frame ring slots, from whatever thread drops the last view of a picture."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Generic, TypeVar

Slot = TypeVar("Slot")


class Returns(Generic[Slot]):
    """Slots on their way home, and the bell that wakes the receiver thread; takes no lock.

    The file descriptor of the bell is closed when the last frame is gone, not before: by then its
    number could belong to somebody else's file.
    """

    def __init__(self) -> None:
        self._slots: deque[Slot] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """File descriptor to wait on."""
        return self._bell

    def put(self, slot: Slot) -> None:
        """Note that nobody looks at this slot any more; called by finalizers, in any thread."""
        self._slots.append(slot)
        self.ring()

    def ring(self) -> None:
        """Wake the receiver thread."""
        with suppress(OSError):
            os.eventfd_write(self._bell, 1)

    def take(self) -> Iterator[Slot]:
        """Everything that came home since the last time."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        while self._slots:
            yield self._slots.popleft()

    def __del__(self) -> None:
        os.close(self._bell)
