"""Subscribers of every kind, and what each has seen."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

from benchmarks.soak.house import CAMERAS
from streamseg.client import Gap, asubscribe, subscribe
from streamseg.types import FrameResult

_FASTEST = "lane"
_BEHIND = 700
"""Results that the slow subscriber lets pass before it reads on: more than the broker keeps."""


class Reader:
    """Keeps the frame numbers of one subscriber, and how much it was told to have lost."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frames: dict[str, list[int]] = {camera: [] for camera in CAMERAS}
        self.lost: Counter[str] = Counter()
        self.gaps = 0
        self.error: BaseException | None = None
        self.ended = threading.Event()
        """Set when nothing more will be published."""
        self._thread = threading.Thread(target=self._guarded, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        self._thread.join(60)

    def take(self, item: FrameResult | Gap) -> None:
        if isinstance(item, Gap):
            self.gaps += 1
            self.lost[item.stream] += item.lost or 0
        else:
            self.frames[item.stream].append(item.frame)

    def read(self) -> None:
        """Read until the end."""
        raise NotImplementedError

    def _guarded(self) -> None:
        try:
            self.read()
        except BaseException as error:  # noqa: BLE001  told in the report
            self.error = error

    def account(self, published: dict[str, list[int]]) -> dict[str, Any]:
        """How that compares with what was published."""
        missing = {name: set(published[name]) - set(self.frames[name]) for name in CAMERAS}
        return {
            "seen": sum(map(len, self.frames.values())),
            "gaps": self.gaps,
            "announced_as_trimmed": self.lost.total(),
            "missing": sum(map(len, missing.values())),
            "missing_frames": None if self.gaps else {n: sorted(m) for n, m in missing.items() if m},
            "lost": sum(abs(len(missing[name]) - self.lost[name]) for name in CAMERAS),
            "doubled": sum(len(seen) - len(set(seen)) for seen in self.frames.values()),
            "out_of_order": sum(seen != sorted(seen) for seen in self.frames.values()),
            "error": None if self.error is None else repr(self.error),
        }


class Plain(Reader):
    """``subscribe``, alone or in a group."""

    def __init__(self, name: str, url: str, *, group: str | None = None) -> None:
        super().__init__(name)
        self._url, self._group = url, group

    def read(self) -> None:
        with subscribe(
            self._url, CAMERAS, start="start", timeout=1.0, group=self._group, gaps=True
        ) as results:
            went_on = True
            while went_on or not self.ended.is_set():
                went_on = self._take_all(results)

    def _take_all(self, results: Iterable[FrameResult | Gap]) -> bool:
        any_came = False
        for item in results:
            any_came = True
            self.take(item)
        return any_came


class Slow(Plain):
    """Falls behind so far, over and over, that results are trimmed away under it."""

    def __init__(self, name: str, url: str, model: Reader) -> None:
        """``model`` keeps up: by it the slow one knows how far it is behind."""
        super().__init__(name, url)
        self._model = model

    def _take_all(self, results: Iterable[FrameResult | Gap]) -> bool:
        ahead = self._model.frames[_FASTEST]
        goal = len(ahead) + _BEHIND
        while len(ahead) < goal and not self.ended.wait(0.5):
            pass
        goal = ahead[-1]
        any_came = False
        for item in results:
            any_came = True
            self.take(item)
            if self.frames[_FASTEST][-1:] >= [goal] and not self.ended.is_set():
                break
        return any_came


class Async(Reader):
    """``asubscribe``."""

    def __init__(self, name: str, url: str) -> None:
        super().__init__(name)
        self._url = url

    def read(self) -> None:
        asyncio.run(self._follow())

    async def _follow(self) -> None:
        async with asubscribe(self._url, CAMERAS, start="start", timeout=1.0, gaps=True) as results:
            went_on = True
            while went_on or not self.ended.is_set():
                went_on = False
                async for item in results:
                    went_on = True
                    self.take(item)


def all_readers(url: str) -> list[Reader]:
    """One of each kind."""
    plain = Plain("plain", url)
    return [plain, Async("async", url), Plain("group", url, group="soak"), Slow("slow", url, plain)]
