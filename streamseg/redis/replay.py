"""What a broker took a moment ago and may have forgotten.

A Redis that writes its log to disk once a second (``appendfsync everysec``, the usual setting) has
answered for one to two seconds' worth of entries that are gone if it is killed. So they are kept here
for a while, and sent again to a broker that comes back without them, before anything newer.
"""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import redis

_SECONDS = 5.0
"""How long entries are kept: the log is written every second, or two behind a busy disk."""
_MOST = 1000
"""Entries kept at most: some 20 MB with 50 masks each."""


@dataclass(slots=True)
class Recent:
    """The newest entries of one Redis stream."""

    key: str
    field_name: str
    maxlen: int
    _entries: deque[tuple[float, str, bytes]] = field(default_factory=lambda: deque(maxlen=_MOST))

    def add(self, id_: str, value: bytes) -> None:
        """Note an entry that the broker has taken."""
        now = time.monotonic()
        while self._entries and self._entries[0][0] < now - _SECONDS:
            self._entries.popleft()
        self._entries.append((now, id_, value))

    def restore(self, connection: Any) -> int:
        """Send again what a broker lacks; returns how much that was.

        Args:
            connection: A connection of redis-py that was just made: nothing newer has been sent on it.

        Raises:
            redis.RedisError: The broker is gone again, or refuses it.
        """
        if not self._entries:
            return 0
        last = self._last_id(connection)
        missing = [entry for entry in self._entries if entry_id(entry[1]) > last]
        for _, id_, value in missing:
            connection.send_command(
                "XADD", self.key, "MAXLEN", "~", self.maxlen, id_, self.field_name, value, check_health=False
            )
            connection.read_response()
        return len(missing)

    def _last_id(self, connection: Any) -> tuple[int, int]:
        """The id of the last entry the broker has, or once had."""
        connection.send_command("XINFO", "STREAM", self.key, check_health=False)
        try:
            answer = connection.read_response()
        except redis.ResponseError as error:
            if "no such key" in str(error):
                return 0, 0
            raise
        pairs = dict(zip(answer[::2], answer[1::2], strict=False))
        return entry_id(pairs[b"last-generated-id"])


def entry_id(text: str | bytes) -> tuple[int, int]:
    """The two numbers of an entry id, which give the order of entries."""
    text = text.decode() if isinstance(text, bytes) else text
    milliseconds, _, sequence = text.partition("-")
    return int(milliseconds), int(sequence or 0)
