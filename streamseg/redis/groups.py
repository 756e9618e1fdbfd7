"""Several subscribers that share the results of some streams: a Redis consumer group.

Each result goes to one of them and is acknowledged when that one asks for the next. What a subscriber took
and did not acknowledge, because it crashed, is taken over by another one after a while. So every result is
handled at least once, and more than once only if a subscriber was taken for dead or the broker lost what
it had been told last.
"""

import os
import re
import socket
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis

from streamseg.errors import UsageError
from streamseg.redis.dialogue import Command, Steps, Wait
from streamseg.redis.keys import results_key
from streamseg.redis.reader import (
    ReadEntry,
    Start,
    check_start,
    checked_streams,
    decode_result,
    known_streams,
    milliseconds,
    read_entries,
)
from streamseg.types import FrameResult

TAKEOVER_AFTER = 30.0
"""Seconds without an acknowledgement after which a subscriber counts as dead."""
_NAME = re.compile(r"[\w.:@-]{1,128}", re.ASCII)
_REMEMBERED = 4096
"""Acknowledged entries that are known again if a broker that lost its last second hands them out anew."""
_LONG_AGO = 10**9
"""Milliseconds: an entry that has been idle for so long is taken over by the next subscriber that looks."""
_ONE: Command = ("COUNT", 1)
"""One entry of a stream at a time: what waits in a subscriber that is busy cannot be done by another one."""

_Id = tuple[str, str]
"""Stream and entry id."""


class GroupReader:
    """Reads as one consumer of a group."""

    def __init__(
        self,
        streams: Sequence[str] | None,
        start: Start,
        *,
        group: str,
        consumer: str | None = None,
        takeover_after: float = TAKEOVER_AFTER,
    ) -> None:
        """``start`` counts for streams that the group has not read before. Raises UsageError."""
        self._wanted = set(checked_streams(streams))
        check_start(start)
        for word, name in (("group", group), ("consumer", consumer)):
            if name is not None and not _NAME.fullmatch(name):
                raise UsageError(f"{word} {name!r} must be 1 to 128 letters, digits or any of _ . : @ -")
        if not takeover_after > 0:
            raise UsageError(f"takeover_after is {takeover_after}, must be more than 0 seconds")
        self.positions: dict[str, str] = {}
        """Id of the last entry handed out, by stream."""
        self._discovers = streams is None
        self._joined: set[str] = set()
        self._start = start
        self._group = group
        self._named = consumer is not None
        self._consumer = consumer or f"{socket.gethostname()[:64]}-{os.getpid()}-{os.urandom(4).hex()}"
        self._takeover_after = takeover_after
        self._look_again = 0.0
        """When to look for entries of dead subscribers next, on the monotonic clock."""
        self._may_own_more = True
        """Whether the broker may have given us entries that we do not have: before a crash, or in an answer
        that was lost."""
        self._ready: deque[ReadEntry] = deque()
        self._current: _Id | None = None
        self._handled: deque[_Id] = deque()
        """To be acknowledged."""
        self._known: dict[_Id, None] = {}
        """Acknowledged lately, oldest first."""

    def begin(self) -> Steps[None]:
        """Find the streams and join, or make, the group in each."""
        if self._discovers:
            self._wanted |= yield from known_streams()
        for stream in sorted(self._wanted - self._joined):
            try:
                yield ("XGROUP", "CREATE", results_key(stream), self._group, self._first(stream), "MKSTREAM")
            except redis.ResponseError as error:
                if "BUSYGROUP" not in str(error):  # it exists: go on where it stands
                    raise
            self._joined.add(stream)
        if self._start == "now":
            self._start = "start"  # a stream that appears from now on is read from its beginning

    def read(self, block: float) -> Steps[None]:
        """Acknowledge; then get what is ours, what a dead subscriber left, or what is new."""
        yield from self._acknowledge()
        yield from self.begin()
        if not self._joined:
            yield Wait(block)
            return
        try:
            yield from self._read_own()
            if not self._ready:
                yield from self._take_over()
            if not self._ready:
                yield from self._obtain(self._xreadgroup(">", "BLOCK", milliseconds(block)))
        except redis.ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._joined.clear()  # the broker came back empty, or somebody removed the stream

    def next_result(self) -> FrameResult | None:
        """Hand out the next result; the one before counts as handled. None when more have to be read."""
        self._finish_current()
        while self._ready:
            entry = self._ready.popleft()
            # A trimmed entry has nothing in it any more.
            result = None if entry.payload is None else decode_result(entry)
            if result is not None:
                self._current = entry[:2]
                self.positions[entry.stream] = entry.id
                return result
            self._handled.append(entry[:2])
        return None

    def end(self, *, handled: bool) -> Steps[None]:
        """Acknowledge the last result if it was ``handled``; leave the others to the next subscriber."""
        if handled:
            self._finish_current()
        yield from self._acknowledge()
        left = [entry[:2] for entry in self._ready]
        if self._current is not None:
            left.append(self._current)
        self._ready.clear()
        for stream, id_ in left:
            key = results_key(stream)
            yield ("XCLAIM", key, self._group, self._consumer, 0, id_, "IDLE", _LONG_AGO)
        if left or self._named or self._may_own_more:
            return  # the entries that a consumer was given would go with it
        for stream in self._joined:
            yield ("XGROUP", "DELCONSUMER", results_key(stream), self._group, self._consumer)

    def _first(self, stream: str) -> str:
        if not isinstance(self._start, str):
            return self._start.get(stream, "0")
        return {"now": "$", "start": "0"}.get(self._start, self._start)

    def _finish_current(self) -> None:
        if self._current is not None:
            self._handled.append(self._current)
            self._current = None

    def _acknowledge(self) -> Steps[None]:
        while self._handled:
            stream, id_ = self._handled[0]
            try:
                yield ("XACK", results_key(stream), self._group, id_)
            except redis.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
            self._known[self._handled.popleft()] = None
            if len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]

    def _read_own(self) -> Steps[None]:
        if self._may_own_more:
            yield from self._obtain(self._xreadgroup("0", "COUNT", 1000))

    def _take_over(self) -> Steps[None]:
        if time.monotonic() < self._look_again:
            return
        idle = int(1000 * self._takeover_after)
        for stream in sorted(self._joined):
            key = results_key(stream)
            yield from self._obtain(
                ("XAUTOCLAIM", key, self._group, self._consumer, idle, "0", *_ONE), claimed_from=key
            )
        if not self._ready:
            self._look_again = time.monotonic() + self._takeover_after / 3

    def _obtain(self, command: Command, *, claimed_from: str | None = None) -> Steps[None]:
        """Ask for entries, which are ours as soon as the broker answers, even if the answer is lost.

        ``claimed_from``: key of the one stream that XAUTOCLAIM answers for.
        """
        self._may_own_more = True
        answer = yield command
        self._may_own_more = False
        self._take(answer if claimed_from is None else [(claimed_from.encode(), answer[1])])

    def _xreadgroup(self, after: str, *options: str | int) -> Command:
        count = () if "COUNT" in options else _ONE
        keys = [results_key(stream) for stream in sorted(self._joined)]
        head: Command = ("XREADGROUP", "GROUP", self._group, self._consumer, *count, *options, "STREAMS")
        return (*head, *keys, *[after] * len(keys))

    def _take(self, answer: Any) -> None:
        """Keep what we do not have yet; acknowledge again what we were through with."""
        held = {entry[:2] for entry in self._ready} | {self._current}
        for entry in read_entries(answer):
            if entry[:2] in self._known:
                self._handled.append(entry[:2])
            elif entry[:2] not in held:
                self._ready.append(entry)
