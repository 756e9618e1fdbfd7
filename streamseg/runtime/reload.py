"""Another configuration for a run that goes on: streams come and go, everything else stays."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from streamseg.config import EventsConfig, NdjsonConfig, RunConfig, VideoConfig
from streamseg.errors import SourceError, UsageError
from streamseg.files import partial_path
from streamseg.outputs import NdjsonOutput, VideoOutput
from streamseg.outputs.events import EventsOutput
from streamseg.runtime.build import build_output, build_streams, check_files_differ, check_rules
from streamseg.runtime.pipeline import Pipeline
from streamseg.runtime.resume import former_ids
from streamseg.sources import Source, place_key

logger = logging.getLogger(__name__)


class Reloader:
    """Brings a running pipeline in line with a new configuration. One thread at a time."""

    def __init__(self, config: RunConfig, pipeline: Pipeline, *, resume: bool = False) -> None:
        """``config`` is what the pipeline was built from; ``resume``: to go on with an interrupted run."""
        self._config, self._resume = config, resume
        self._pipeline = pipeline
        streams = build_streams(config, refuse=lambda _: None)
        files = [one for one in config.outputs if isinstance(one, VideoConfig | NdjsonConfig | EventsConfig)]
        outputs = [build_output(output, several=len(streams) > 1) for output in files]
        if resume:
            streams = build_streams(config, known=former_ids(outputs), refuse=lambda _: None)
        self._sources = {source.id: source for source, _ in streams}
        self._rules = {source.id: rules for source, rules in streams}
        self._files = [
            output for output in outputs if isinstance(output, VideoOutput | NdjsonOutput | EventsOutput)
        ]
        self._waiting: list[Source] = []
        """To be added as soon as the stream that had their id has closed its files."""

    def apply(self, config: RunConfig) -> None:
        """Add, change and remove streams; raises UsageError, and nothing has changed, if that cannot be.

        A camera whose settings changed goes on as after a reconnect, with another ``max_fps`` without;
        other rules (classes, score, region, ignore, zones, lines) count from the next frame on, also in a
        recording. What else changed is named in a warning: it takes a restart.
        """
        known: dict[str, list[str]] = {}
        for id_, source in self._sources.items():
            known.setdefault(place_key(source.place), []).append(id_)
        streams = build_streams(config, known=known, refuse=_warn)
        check_rules(config, self._pipeline.classes)
        wanted = {source.id: source for source, _ in streams}
        rules = {source.id: rules for source, rules in streams}
        reruled = [id_ for id_ in wanted if id_ in self._rules and rules[id_] != self._rules[id_]]
        added = [source for id_, source in wanted.items() if id_ not in self._sources]
        removed = [id_ for id_ in self._sources if id_ not in wanted]
        changed = [s for id_, s in wanted.items() if id_ in self._sources and s != self._sources[id_]]
        revived = [source for source in changed if self._is_over(source.id)]
        self._check(list(wanted.values()), new=[*added, *revived], changed=changed)
        self._sources, self._rules = wanted, rules
        for id_ in wanted:
            self._pipeline.set_rules(id_, rules[id_])
        self._say_what_stays(config)
        # First those that come: a run without a stream would end.
        self._waiting += [*added, *revived]
        self.retry()
        for source in changed:
            if source not in revived:
                self._pipeline.replace(source)
        for id_ in removed:
            self._waiting = [source for source in self._waiting if source.id != id_]
            self._pipeline.remove(id_)
        said = [
            f"{word} {', '.join(ids)}"
            for word, ids in (
                ("added", [s.id for s in added]),
                ("changed", sorted({s.id for s in changed} | set(reruled))),
                ("removed", removed),
            )
            if ids
        ]
        if said:
            logger.warning("streams of the configuration: %s", "; ".join(said))

    def retry(self) -> None:
        """Add what had to wait for a stream of the same id to end. To be called now and then."""
        for source in list(self._waiting):
            if source.id not in self._pipeline.stats.streams or self._is_over(source.id):
                self._waiting.remove(source)
                self._pipeline.add(source)

    def _is_over(self, stream: str) -> bool:
        known = self._pipeline.stats.streams.get(stream)
        return known is not None and known.over

    def _check(self, wanted: Sequence[Source], *, new: Sequence[Source], changed: Sequence[Source]) -> None:
        for source in changed:
            if source.recorded or self._sources[source.id].recorded:
                raise UsageError(
                    f"stream {source.id}: a recorded file cannot be changed while it is read; "
                    "give what is to be read another id"
                )
        for output in self._files:
            paths = [path for source in wanted if (path := output.path(source.id)) is not None]
            if len(set(paths)) < len(paths):
                raise UsageError(
                    f"{paths[0]}: several streams would be written to it; start with a folder, or with "
                    "{stream} in the name"
                )
            for source in new:
                if paths and source.id in self._pipeline.stats.streams:
                    raise UsageError(
                        f"stream {source.id} has ended in this run and its files would be overwritten; "
                        "give it another id or restart"
                    )
                if self._resume and (path := output.path(source.id)) is not None and _has_begun(path):
                    raise UsageError(
                        f"stream {source.id} has results in {path} that would be overwritten; restart "
                        "with --resume to go on with them"
                    )
            output.check([source.id for source in new])
        check_files_differ(wanted, self._files)

    def _say_what_stays(self, config: RunConfig) -> None:
        before, after = self._config.model_dump(), config.model_dump()
        keys = [key for key in before if key != "streams" and before[key] != after[key]]
        if keys:
            logger.warning("only streams can change while it runs; %s: needs a restart", ", ".join(keys))


def _warn(error: SourceError) -> None:
    logger.warning("%s", error)


def _has_begun(path: Path) -> bool:
    return path.exists() or partial_path(path).exists()
