"""Watches the outputs of a run: tells the log, the status of every stream and the page when one is down."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from streamseg.outputs.health import OutputHealth
from streamseg.runtime.delivery import Outputs

logger = logging.getLogger(__name__)

_SECONDS = 0.5
"""Between two looks."""


class HealthWatch:
    """Looks at all outputs twice a second, in a thread of its own."""

    def __init__(self, outputs: Outputs, *, changed: Callable[[str], None]) -> None:
        """``changed`` is given :attr:`text` whenever it is another one, in that thread."""
        self._outputs, self._changed = outputs, changed
        self.text = ""
        """What is wrong with which output, in one line; empty while all is well."""
        self._last: dict[str, OutputHealth] = {}
        self._outages: Counter[str] = Counter()
        """Times an output was down without an error, by name."""
        self._missed: Counter[str] = Counter()
        """Results that readers of the outputs missed, by stream, as it was told last."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="output-health", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look once more, and no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self.look()

    def now(self) -> list[OutputHealth]:
        """All outputs as they are; any thread."""
        return [replace(h, errors=h.errors + self._outages[h.name]) for h in self._outputs.health()]

    def look(self) -> None:
        """See what has changed, and tell it."""
        found = self._outputs.health()
        for health in found:
            self._compare(self._last.get(health.name, OutputHealth(health.name)), health)
        self._last = {health.name: health for health in found}
        self._tell_missed(found)
        text = "; ".join(f"{h.name}: {h.trouble}" for h in found if h.trouble)
        if text != self.text:
            self.text = text
            self._changed(text)

    def _run(self) -> None:
        while not self._stop.wait(_SECONDS):
            self.look()

    def _tell_missed(self, found: list[OutputHealth]) -> None:
        missed: Counter[str] = Counter()
        for health in found:
            for (stream, _), count in health.missed.items():
                missed[stream] += count
        for stream in missed.keys() - {name for name, n in self._missed.items() if n == missed[name]}:
            self._outputs.report(stream, missed=missed[stream])
        self._missed = missed

    def _compare(self, before: OutputHealth, now: OutputHealth) -> None:
        if before.up and not now.up:
            if now.errors == before.errors:
                self._outages[now.name] += 1
            if now.stuck:
                logger.warning("%s %s", now.name, now.trouble)
        elif before.stuck and now.up:
            logger.warning("%s takes results again", now.name)
