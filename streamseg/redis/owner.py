"""Who may publish a stream that several engines have in turn.

Every owner begins with an epoch that :func:`claim_epoch` gives it, higher than all that were published
before. What it publishes goes through a script, which the broker runs as one step: it compares the owner's
first epoch with the newest owner's, and adds nothing for a former one. So the epochs of a stream grow for its
subscribers, and results of two owners never come interleaved, whatever the clocks of the owners say.

    streamseg:{STREAM}:owner    first    first epoch of the newest owner
                                epoch    newest epoch that was published

A broker that comes back without its data takes the first owner that publishes for the newest, until a
newer one does; results of the former are refused from then on. Epochs grow all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

import redis

from streamseg.errors import NotOwnerError
from streamseg.redis.entries import NewEntry
from streamseg.redis.keys import owner_key, results_key, status_key
from streamseg.types import StreamInfo

_CHECK = """
local first, epoch = tonumber(ARGV[1]), tonumber(ARGV[2])
local known = redis.call('HMGET', KEYS[1], 'first', 'epoch')
local owner, newest = tonumber(known[1] or -1), tonumber(known[2] or -1)
if owner > first then return owner end
if owner < first or newest < epoch then
  redis.call('HSET', KEYS[1], 'first', first, 'epoch', math.max(newest, epoch))
end
"""
_PUBLISH = (
    _CHECK
    + """
local answers, place = {}, 4
for k = 2, #KEYS do
  local last = place + 1 + tonumber(ARGV[place + 1])
  answers[k - 1] = redis.pcall(
    'XADD', KEYS[k], 'MAXLEN', '~', ARGV[place], ARGV[3], unpack(ARGV, place + 2, last))
  place = last + 1
end
return answers
"""
)
_STATUS = (
    _CHECK
    + """
redis.call('HSET', KEYS[2], unpack(ARGV, 4))
redis.call('EXPIRE', KEYS[2], ARGV[3])
return false
"""
)
# A result begins with its version, stream and epoch; decoding all of its masks here would take long.
_CLAIM = """
local known = redis.call('HMGET', KEYS[1], 'first', 'epoch')
local newest = math.max(tonumber(known[1] or -1), tonumber(known[2] or -1), tonumber(ARGV[1]) - 1)
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
if last then
  for k = 1, #last[2], 2 do
    local epoch = last[2][k] == 'result' and string.match(last[2][k + 1], '"epoch": *(%d+)')
    newest = math.max(newest, tonumber(epoch or -1))
  end
end
redis.call('HSET', KEYS[1], 'first', newest + 1, 'epoch', newest)
return newest + 1
"""


def claim_epoch(client: redis.Redis, stream: str, *, at_least: int = 0) -> int:
    """Become the owner of a stream; what former owners still send is refused from now on.

    Args:
        client: A connection to the broker that the stream's results go to.
        stream: Its id.
        at_least: Lowest epoch to begin with.

    Returns:
        The first epoch of the new owner: higher than all that were claimed or published before.

    Raises:
        redis.RedisError: The broker is gone, or refuses it.
    """
    answer: Any = _run(client, _CLAIM, [owner_key(stream), results_key(stream)], [at_least])
    return int(answer)


@dataclass(frozen=True, slots=True)
class Ownership:
    """What an owner shows the broker with everything that it publishes of one stream."""

    stream: str
    first: int
    """Its first epoch."""
    epoch: int
    """The one that is published now."""

    @classmethod
    def of(cls, info: StreamInfo) -> Ownership | None:
        """None for a stream that nobody else publishes."""
        return None if info.claim is None else cls(info.stream, info.claim, info.epoch)

    def add(self, client: redis.Redis, entries: Sequence[NewEntry], id_: str) -> list[Any]:
        """Add entries under one id in one round trip; the broker's answer to each, errors among them.

        Raises:
            redis.RedisError: The broker is gone, or refuses it.
            NotOwnerError: There is a newer owner; nothing was added.
        """
        answer = _run(client, _PUBLISH, *self._publishing(entries, id_))
        if isinstance(answer, int):
            raise self._refused(answer)
        return list(answer)

    def restoring(self, entry: NewEntry, id_: str) -> tuple[str | int | bytes | float, ...]:
        """The command that adds one entry; its answer is a number if there is a newer owner."""
        keys, arguments = self._publishing([entry], id_)
        return ("EVAL", _PUBLISH, len(keys), *keys, *arguments)

    def _publishing(self, entries: Sequence[NewEntry], id_: str) -> tuple[list[str], list[Any]]:
        arguments: list[Any] = [self.first, self.epoch, id_]
        for entry in entries:
            arguments += [entry.maxlen, 2 * len(entry.fields)]
            arguments += [part for field in entry.fields.items() for part in field]
        return [owner_key(self.stream), *(entry.key for entry in entries)], arguments

    def _refused(self, owner: int) -> NotOwnerError:
        return NotOwnerError(self.stream, f"epochs from {owner} on are its own, ours began with {self.first}")


def set_status(
    pipe: redis.client.Pipeline, stream: str, first: int, fields: Mapping[str, str | int | float], ttl: int
) -> None:
    """Set a stream's status hash, which is kept for ``ttl`` seconds, unless there is a newer owner.

    ``first``: our first epoch. The answer is the number of the newer owner's, else None.
    """
    parts = [part for field in fields.items() for part in field]
    pipe.eval(_STATUS, 2, owner_key(stream), status_key(stream), first, -1, ttl, *parts)


def _run(client: redis.Redis, script: str, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
    """Run a script by its digest: the broker has forgotten it only after a restart."""
    try:
        return client.evalsha(_digest(script), len(keys), *keys, *arguments)
    except redis.exceptions.NoScriptError:
        return client.eval(script, len(keys), *keys, *arguments)


def _digest(script: str) -> str:
    return sha1(script.encode(), usedforsecurity=False).hexdigest()  # as the broker names its scripts
