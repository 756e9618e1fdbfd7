"""The frame ring: a few slots of one picture each, in memory that worker and parent share.

The worker makes the memory (a memfd: it has no name, so that nothing can be left behind by a
killed process), writes pictures into free slots and sends the slots' numbers. The parent looks at
them without copying; when the last view of a picture is gone, the slot goes back to the worker.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import weakref
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

MIN_SLOTS = 3
"""One being written, one on its way, one being looked at: with fewer, both sides wait for each other."""


def slot_count(wanted: int, frame_bytes: int, max_bytes: int) -> int:
    """Slots for frames of this size: at most ``wanted`` and what ``max_bytes`` holds, at least 3."""
    return max(MIN_SLOTS, min(wanted, max_bytes // _slot_bytes(frame_bytes)))


def _slot_bytes(frame_bytes: int) -> int:
    """Slots begin on page boundaries, so that they can be registered for transfers to a GPU."""
    return -(-frame_bytes // mmap.PAGESIZE) * mmap.PAGESIZE


class RingWriter:
    """The worker's side. Slots may be released from another thread."""

    def __init__(self, height: int, width: int, slots: int) -> None:
        stride = _slot_bytes(height * width * 3)
        self.slots = slots
        self.fd = os.memfd_create("streamseg-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.fd, stride * slots)
        # A memory that shrinks would kill the process that looks at it (SIGBUS).
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        memory = mmap.mmap(self.fd, stride * slots)
        self._pictures = [
            np.ndarray((height, width, 3), np.uint8, buffer=memory, offset=stride * slot)
            for slot in range(slots)
        ]
        self._free = list(reversed(range(slots)))
        self._stopped = False
        self._changed = threading.Condition()

    def picture(self, slot: int) -> NDArray[np.uint8]:
        """(height, width, 3) uint8, to be written to between acquire and sending the slot's number."""
        return self._pictures[slot]

    def acquire(self, *, wait: bool) -> int | None:
        """Take a free slot; None when there is none (and not ``wait``) or after :meth:`stop`."""
        with self._changed:
            while wait and not self._free and not self._stopped:
                self._changed.wait()
            return self._free.pop() if self._free and not self._stopped else None

    def release(self, slot: int) -> None:
        """Make a slot free again."""
        with self._changed:
            self._free.append(slot)
            self._changed.notify()

    def stop(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def close(self) -> None:
        """Let go of the memory; the parent keeps it as long as it looks at a picture."""
        self._pictures = []
        os.close(self.fd)


class RingReader:
    """The parent's side: read-only, and alive as long as any of its pictures is."""

    def __init__(self, fd: int, height: int, width: int) -> None:
        """Map the ring behind ``fd`` (which is closed). Raises OSError or ValueError if that fails."""
        try:
            self._memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        finally:
            os.close(fd)
        self._shape = (height, width, 3)
        self._stride = _slot_bytes(height * width * 3)

    def lend(self, slot: int, returned: Callable[[], None]) -> NDArray[np.uint8]:
        """Show a slot: (height, width, 3) uint8, read-only, without a copy.

        ``returned`` is called once, when the last view of these pixels is gone: in whatever thread
        that happens, also in the midst of a garbage collection, so it must take no lock.
        """
        picture = np.ndarray(self._shape, np.uint8, buffer=self._memory, offset=self._stride * slot)
        weakref.finalize(picture, returned).atexit = False
        # A view, and never the array itself: every view of a view refers to the first array of the
        # chain (numpy shortens the chain up to there), so that one lives as long as any of them.
        return picture.view()
