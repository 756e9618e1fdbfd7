"""A stream of several engines: what is known of it, and what the engine is told that is to read it."""

from __future__ import annotations

from dataclasses import dataclass, fields
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
    begun: bool = False
    """Whether its holder has told anything of it."""
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
        config = stream_config(self.source, self.rules) | ({} if self.live is None else {"live": self.live})
        return WantedStream(config, 0 if self.recorded else self.epoch + 1, self.since)


def stream_config(source: Source, rules: StreamRules) -> dict[str, Any]:
    """The keys of the stream, as JSON has them; user and password stand in the URL."""
    known = {"stalled_after": source.read_timeout, "score": rules.score or None, "first_epoch": source.claim}
    for part in (source, rules):
        names = {field.name for field in fields(part)} & StreamConfig.model_fields.keys()
        known = {name: getattr(part, name) for name in names} | known
    return StreamConfig.model_validate(known).model_dump(mode="json", exclude_defaults=True)
