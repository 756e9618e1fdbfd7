"""Another configuration for a run that goes on: streams come and go, everything else stays."""

from __future__ import annotations

import logging
from pathlib import Path

from streamseg.config import EventsConfig, NdjsonConfig, RunConfig, VideoConfig
from streamseg.errors import SourceError, UsageError
from streamseg.files import partial_path
from streamseg.outputs import NdjsonOutput, VideoOutput
from streamseg.outputs.events import EventsOutput
from streamseg.runtime.build import build_streams
from streamseg.runtime.build_outputs import build_output
from streamseg.runtime.checks import check_files_differ, check_rules
from streamseg.runtime.resume import former_ids
from streamseg.runtime.stream_set import ChangingRun, StreamChanges, StreamSet
from streamseg.sources import place_key

logger = logging.getLogger(__name__)


class Reloader:
    """Brings a running pipeline in line with a new configuration. One thread at a time."""

    def __init__(self, config: RunConfig, run: ChangingRun, *, resume: bool = False) -> None:
        """``config`` is what the run was built from; ``resume``: to go on with an interrupted run."""
        self._config, self._resume = config, resume
        self._run = run
        streams = build_streams(config, refuse=lambda _: None)
        files = [one for one in config.outputs if isinstance(one, VideoConfig | NdjsonConfig | EventsConfig)]
        outputs = [build_output(output, several=len(streams) > 1) for output in files]
        if resume:
            streams = build_streams(config, known=former_ids(outputs), refuse=lambda _: None)
        self._streams = StreamSet(run, streams)
        self._files = [
            output for output in outputs if isinstance(output, VideoOutput | NdjsonOutput | EventsOutput)
        ]

    def apply(self, config: RunConfig) -> None:
        """Add, change and remove streams; raises UsageError, and nothing has changed, if that cannot be.

        A camera whose settings changed goes on as after a reconnect, with another ``max_fps`` without;
        other rules (classes, score, region, ignore, zones, lines) count from the next frame on, also in a
        recording. What else changed is named in a warning: it takes a restart.
        """
        known: dict[str, list[str]] = {}
        for id_, source in self._streams.sources.items():
            known.setdefault(place_key(source.place), []).append(id_)
        streams = build_streams(config, known=known, refuse=_warn)
        check_rules(config, self._run.classes)
        changes = self._streams.compare(streams)
        self._check(changes)
        self._say_what_stays(config)
        self._streams.apply(changes)
        if text := changes.text():
            logger.warning("streams of the configuration: %s", text)

    def retry(self) -> None:
        """Add what had to wait for a stream of the same id to end. To be called now and then."""
        self._streams.retry()

    def _check(self, changes: StreamChanges) -> None:
        wanted, new = list(changes.sources.values()), [*changes.added, *changes.revived]
        for source in (*changes.changed, *changes.revived):
            if source.recorded or self._streams.sources[source.id].recorded:
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
                if paths and source.id in self._run.stats.streams:
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
