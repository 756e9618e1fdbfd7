"""The streams of a run that goes on: brought in line with those that are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from streamseg.runtime.stats import RunStats
from streamseg.sources import Source
from streamseg.zones import StreamRules


class ChangingRun(Protocol):
    """What streams can be added to and removed from: a pipeline, or several engines."""

    stats: RunStats

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of all that the model finds."""

    def add(self, source: Source) -> bool:
        """Read one more source, with an id that is new or over."""

    def remove(self, name: str) -> None:
        """End a stream."""

    def replace(self, source: Source) -> None:
        """Go on with other settings for the camera of the same id."""

    def set_rules(self, name: str, rules: StreamRules) -> None:
        """Other rules for a stream; one that is added later begins with them."""


@dataclass(frozen=True, slots=True)
class StreamChanges:
    """From the streams that a run has to those that are wanted."""

    sources: dict[str, Source]
    """All that are wanted, by id."""
    rules: dict[str, StreamRules]
    added: list[Source]
    changed: list[Source]
    """Those with other settings that are being read."""
    revived: list[Source]
    """Those with other settings that are over."""
    reruled: list[str]
    removed: list[str]

    def text(self) -> str:
        """What changes, for the log; empty if nothing does."""
        changed = {source.id for source in (*self.changed, *self.revived)} | set(self.reruled)
        said = (
            ("added", [source.id for source in self.added]),
            ("changed", sorted(changed)),
            ("removed", self.removed),
        )
        return "; ".join(f"{word} {', '.join(ids)}" for word, ids in said if ids)


class StreamSet:
    """Which streams a run has. One thread at a time."""

    def __init__(
        self,
        run: ChangingRun,
        streams: Iterable[tuple[Source, StreamRules]] = (),
        *,
        add: Callable[[Source], object] | None = None,
    ) -> None:
        """``streams``: those of ``run`` now; ``add``: adds a source, in place of ``run.add``."""
        self._run, self._add = run, add or run.add
        known = list(streams)
        self.sources: Mapping[str, Source] = {source.id: source for source, _ in known}
        """Those that are wanted, by id."""
        self._rules: Mapping[str, StreamRules] = {source.id: rules for source, rules in known}
        self._waiting: dict[str, None] = {}
        """Ids, in order: to be added as soon as the stream that had their id has closed its files."""

    def compare(self, wanted: Iterable[tuple[Source, StreamRules]]) -> StreamChanges:
        """What has to change; nothing does yet."""
        known, before = list(wanted), self.sources
        sources = {source.id: source for source, _ in known}
        rules = {source.id: of_stream for source, of_stream in known}
        other = [source for id_, source in sources.items() if id_ in before and source != before[id_]]
        return StreamChanges(
            sources=sources,
            rules=rules,
            added=[source for id_, source in sources.items() if id_ not in before],
            changed=[source for source in other if not self._is_over(source.id)],
            revived=[source for source in other if self._is_over(source.id)],
            reruled=[id_ for id_ in sources if id_ in self._rules and rules[id_] != self._rules[id_]],
            removed=[id_ for id_ in before if id_ not in sources],
        )

    def apply(self, changes: StreamChanges) -> None:
        """Make the changes, which were compared with the streams as they are."""
        self.sources, self._rules = changes.sources, changes.rules
        for id_, rules in changes.rules.items():
            self._run.set_rules(id_, rules)
        # First those that come: a run without a stream would end.
        self._waiting |= dict.fromkeys(source.id for source in (*changes.added, *changes.revived))
        for id_ in changes.removed:
            self._waiting.pop(id_, None)
        self.retry()
        for source in changes.changed:
            if source.id not in self._waiting:  # else it begins with these settings
                self._run.replace(source)
        for id_ in changes.removed:
            self._run.remove(id_)

    def retry(self) -> None:
        """Add what had to wait for a stream of the same id to end. To be called now and then."""
        for id_ in list(self._waiting):
            if id_ not in self._run.stats.streams or self._is_over(id_):
                del self._waiting[id_]
                self._add(self.sources[id_])

    def _is_over(self, stream: str) -> bool:
        known = self._run.stats.streams.get(stream)
        return known is not None and known.over
