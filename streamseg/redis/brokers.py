"""Becoming the owner of a camera at all brokers that a run's results go to."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from streamseg.config import RedisConfig, RunConfig
from streamseg.redis.connection import broker_name, connect
from streamseg.redis.owner import claim_epoch
from streamseg.redis.trouble import trouble

_ANSWER_SECONDS = 2.0
"""For an answer: the worker that claims has to renew its lease meanwhile."""


class Brokers:
    """Claims cameras at every broker of a run: none then takes results of a former owner."""

    def __init__(self, outputs: Sequence[RedisConfig]) -> None:
        """Connect to nothing yet. Raises UsageError."""
        self._clients = [
            connect(output.url, timeout=_ANSWER_SECONDS, password_file=output.password_file)
            for output in outputs
        ]

    @classmethod
    def of(cls, config: RunConfig) -> Brokers:
        """Those of a configuration. Raises UsageError."""
        return cls([output for output in config.outputs if isinstance(output, RedisConfig)])

    def __len__(self) -> int:
        """How many there are."""
        return len(self._clients)

    def claim(self, stream: str, *, at_least: int = 0) -> int | None:
        """Become the owner of a stream at all of them; None if there is none.

        Returns the first epoch of the new owner, not below ``at_least``. Raises redis.RedisError.
        """
        if not self._clients:
            return None
        while True:
            firsts = [self._claim(client, stream, at_least) for client in self._clients]
            if min(firsts) == max(firsts):
                return firsts[0]
            at_least = max(firsts) + 1

    def _claim(self, client: redis.Redis, stream: str, at_least: int) -> int:
        try:
            return claim_epoch(client, stream, at_least=at_least)
        except redis.RedisError as error:
            client.connection_pool.disconnect()  # its name may stand for another server by now
            raise type(error)(f"{broker_name(client)} {trouble(error)}") from None
