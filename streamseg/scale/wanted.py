"""A stream of several engines: what is known of it, and what the engine is told that is to read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamseg.config import StreamConfig
from streamseg.scale.control import WantedStream
from streamseg.scale.totals import StreamTotals
from streamseg.sources import Source
from streamseg.zones import StreamRules


@dataclass(slots=True)
class SharedStream:
    """What is known of a stream; its numbers are in the run's."""

    source: Source
    rules: StreamRules
    totals: StreamTotals
    since: float | None
    """See :attr:`WantedStream.since`."""
    epoch: int = -1
    """The last one of which an engine told."""
    live: bool | None = None
    """As an engine found; None: it was not opened yet."""
    holder: int | None = None
    """The owner that has it, see :attr:`EngineHandle.owner`."""
    over: bool = False
    """Whether only its files are left to be finished."""
    done: bool = False
    """Whether all is written."""
    removed: bool = False
    """Whether the user wants it no more."""
    taken: bool = True
    """Whether its results find their way out somewhere."""

    @property
    def recorded(self) -> bool:
        """Whether it is a recording, as far as is known."""
        return self.source.recorded if self.live is None else not self.live

    def wanted(self) -> WantedStream:
        """What its next engine is to be told."""
        config = _stream_config(self.source, self.rules) | ({} if self.live is None else {"live": self.live})
        epoch = None if self.recorded or self.epoch < 0 else self.epoch + 1
        return WantedStream(config, epoch, self.since)


def _stream_config(source: Source, rules: StreamRules) -> dict[str, Any]:
    """The keys of the stream, as JSON has them; user and password stand in the URL."""
    stream = StreamConfig(
        id=source.id,
        url=source.url,
        live=source.live,
        transport=source.transport,
        decode=source.decode,
        start=source.start,
        end=source.end,
        stride=source.stride,
        deinterlace=source.deinterlace,
        stalled_after=source.read_timeout,
        reconnect_attempts=source.reconnect_attempts,
        damaged=source.damaged,
        classes=rules.classes,
        score=rules.score or None,
        region=rules.region,
        ignore=rules.ignore,
        zones=dict(rules.zones),
        lines=dict(rules.lines),
    )
    return stream.model_dump(mode="json", exclude_defaults=True)
