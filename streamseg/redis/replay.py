"""What the broker took a moment ago and may have forgotten.

A Redis that writes its log to disk once a second (``appendfsync everysec``, the usual setting) has
answered for one to two seconds' worth of entries that are gone if it is killed. A primary that is replaced
on demand (``SENTINEL FAILOVER``) goes on answering for some 10 s until it is demoted. So entries are kept
here for a while, and sent again to a broker that comes without them, before anything newer.
"""

import time
from collections import deque
from typing import Any

import redis

from streamseg.redis.entries import EntryId, NewEntry, parse_id
from streamseg.redis.owner import Ownership

_SECONDS = 20.0
"""How long entries are kept: a Sentinel demotes a primary 8 s after it has promoted another one, at the
earliest."""
_MOST = 1000
"""Entries kept at most: some 20 MB with 50 masks each."""


class ReplayBuffer:
    """The newest entries of one Redis stream."""

    def __init__(self, key: str, field_name: str, maxlen: int) -> None:
        """``field_name``: of the only field of each entry; ``maxlen``: what the stream is trimmed to."""
        self._key, self.field_name, self._maxlen = key, field_name, maxlen
        self._entries: deque[tuple[float, str, bytes]] = deque(maxlen=_MOST)
        """Monotonic seconds, id and value."""
        self._closed_at = float("inf")
        self.ownership: Ownership | None = None
        """What the broker is shown with entries that are sent again; None: nobody else publishes them."""

    @property
    def expired(self) -> bool:
        """Whether it is closed, and the broker has saved all of them by now."""
        return self._closed_at < time.monotonic() - _SECONDS

    def add(self, id_: str, value: bytes) -> None:
        """Note an entry that the broker has taken."""
        now = time.monotonic()
        while self._entries and self._entries[0][0] < now - _SECONDS:
            self._entries.popleft()
        self._entries.append((now, id_, value))

    def close(self) -> None:
        """Take notice that no more entries will come."""
        self._closed_at = time.monotonic()

    def restore(self, connection: Any) -> int:
        """Send again what the broker lacks; returns how much that was.

        Args:
            connection: A connection of redis-py that was just made: nothing newer has been sent on it.

        Raises:
            redis.RedisError: The broker is gone again, or refuses it.
        """
        if not self._entries:
            return 0
        last = self._last_id(connection)
        missing = [entry for entry in self._entries if parse_id(entry[1]) > last]
        for _, id_, value in missing:
            if not self._send(connection, id_, value):
                self._entries.clear()  # the new owner's results may be there already
                return 0
        return len(missing)

    def _send(self, connection: Any, id_: str, value: bytes) -> bool:
        """Returns False if another engine owns the stream by now."""
        if self.ownership is None:
            trim = ("MAXLEN", "~", self._maxlen)
            _ask(connection, "XADD", self._key, *trim, id_, self.field_name, value)
            return True
        entry = NewEntry(self._key, {self.field_name: value}, self._maxlen)
        answer = _ask(connection, *self.ownership.restoring(entry, id_))
        if isinstance(answer, int):
            return False
        if isinstance(answer[0], Exception):
            raise answer[0]
        return True

    def _last_id(self, connection: Any) -> EntryId:
        """The id of the last entry the broker has, or once had."""
        try:
            answer = _ask(connection, "XINFO", "STREAM", self._key)
        except redis.ResponseError as error:
            if "no such key" in str(error):
                return 0, 0
            raise
        pairs = dict(zip(answer[::2], answer[1::2], strict=False))
        return parse_id(pairs[b"last-generated-id"])


def _ask(connection: Any, *command: str | int | float | bytes) -> Any:
    connection.send_command(*command, check_health=False)
    return connection.read_response()
