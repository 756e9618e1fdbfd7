"""The broker that a run brings along, if its configuration says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streamseg.config import RedisConfig, RunConfig
from streamseg.redis.embedded import EMBEDDED, EmbeddedBroker


@contextmanager
def embedded_broker(config: RunConfig) -> Iterator[tuple[RunConfig, str | None]]:
    """The configuration with the address of a broker where ``embedded`` stands, and that address.

    The broker runs as long as the context. Raises what :class:`EmbeddedBroker` raises.
    """
    if not any(_wants_it(output) for output in config.outputs):
        yield config, None
        return
    with EmbeddedBroker() as broker:
        outputs = tuple(
            output.model_copy(update={"url": broker.url}) if _wants_it(output) else output
            for output in config.outputs
        )
        yield config.model_copy(update={"outputs": outputs}), broker.url


def _wants_it(output: object) -> bool:
    return isinstance(output, RedisConfig) and output.url == EMBEDDED
