"""The frame ring: a few slots of one picture each, in memory that worker and parent share.

The worker makes the memory (a memfd: it has no name, so that nothing can be left behind by a
killed process), writes pictures into free slots and sends the slots' numbers. The parent lends the
pictures without copying; when the last view of one is gone, its slot is given back to the worker:

    RingWriter.acquire -> Decoded -> RingReader.lend -> ... -> ReturnedSlots -> Release -> RingWriter.release
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Slot = TypeVar("Slot")

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

    def __init__(self, height: int, width: int, slots: int, *, lent_before: int = 0) -> None:
        """``lent_before``: slots of an earlier ring that are in use, and are paid for here until then."""
        stride = _slot_bytes(height * width * 3)
        self.slots = slots
        self._lent_before = lent_before
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
            while wait and not self._has_room and not self._stopped:
                self._changed.wait()
            return self._free.pop() if self._has_room and not self._stopped else None

    @property
    def _has_room(self) -> bool:
        return len(self._free) > self._lent_before

    @property
    def lent(self) -> int:
        """Slots in use, those of earlier rings included."""
        with self._changed:
            return self.slots - len(self._free) + self._lent_before

    def released_before(self, count: int) -> None:
        """So many slots of an earlier ring are free."""
        with self._changed:
            self._lent_before = max(0, self._lent_before - count)
            self._changed.notify()

    def release(self, slots: Iterable[int]) -> None:
        """Make slots free again."""
        with self._changed:
            self._free.extend(slots)
            self._changed.notify()

    def stop(self) -> None:
        """End every wait for a slot, now and later."""
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def close(self) -> None:
        """Give the memory up; it lives on in the parent while anybody there holds a picture."""
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


class ReturnedSlots(Generic[Slot]):
    """The slots that were given back, and a file descriptor that tells the receiver thread so.

    It takes no lock, for slots are given back by finalizers. The file descriptor is closed when the last
    frame is gone, not before: by then its number could belong to somebody else's file.
    """

    def __init__(self) -> None:
        """Raises OSError when the process has no file descriptor left."""
        self._slots: deque[Slot] = deque()
        self._closed = False
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        """File descriptor to wait on."""
        return self._event_fd

    def put(self, slot: Slot) -> None:
        """Note that nobody looks at this slot any more; called by finalizers, in any thread."""
        if not self._closed:
            self._slots.append(slot)
            self.wake()

    def wake(self) -> None:
        """Wake the thread that waits on the file descriptor."""
        with suppress(OSError):
            os.eventfd_write(self._event_fd, 1)

    def take(self) -> Iterator[Slot]:
        """Every slot that was given back since the last time."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._event_fd)
        while self._slots:
            yield self._slots.popleft()

    def close(self) -> None:
        """Keep no more slots: nobody will take them."""
        self._closed = True
        self._slots.clear()

    def __del__(self) -> None:
        if hasattr(self, "_event_fd"):
            os.close(self._event_fd)
