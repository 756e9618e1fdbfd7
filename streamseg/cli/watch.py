"""Looking after the configuration file while the program runs."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from streamseg.config import RunConfig
from streamseg.errors import UsageError

if TYPE_CHECKING:
    from streamseg.runtime.reload import Reloader

logger = logging.getLogger(__name__)

_EVERY = 1.0
"""Seconds between two looks at the file."""


class ConfigWatcher:
    """Applies the configuration file again when it has changed, or when :attr:`asked` is set.

    A file that was changed is read once it has stood still from one look to the next: half of a file may
    be a valid configuration too, with half of the streams.
    """

    def __init__(self, path: Path, load: Callable[[], RunConfig], *, every: float = _EVERY) -> None:
        """``load`` reads the file, options of the command line included; it may raise UsageError."""
        self.asked = False
        """May be set anywhere, also in a signal handler (which must take no lock)."""
        self._path, self._load, self._every = path, load, every
        self._applied = self._seen = self._signature()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, reloader: Reloader) -> None:
        """Watch from now on."""
        self._thread = threading.Thread(target=self._run, args=(reloader,), name="config", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self, reloader: Reloader) -> None:
        while not self._stopping.wait(self._every):
            reloader.retry()
            before, self._seen = self._seen, self._signature()
            stands_still = self._seen == before
            if self.asked or (stands_still and self._seen not in {None, self._applied}):
                self.asked, self._applied = False, self._seen
                self._reload(reloader)

    def _reload(self, reloader: Reloader) -> None:
        try:
            reloader.apply(self._load())
        except UsageError as error:
            logger.error("nothing is changed: %s", error)
        except Exception:  # a bug must not end the watching; the next edit may work
            logger.exception("the change could not be applied")

    def _signature(self) -> tuple[int, ...] | None:
        """What is different after an edit; None while there is no file, as between two steps of an editor."""
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino
